-- settle: book what a call cost: once, even late, even twice sent.
--
-- ARGV 6 id  7 its row  8 amounts, JSON  9 facts, JSON  10 facts of a late one, JSON  11 '1' where the caller has the body
--      12 from when on an id that is not remembered is a dead letter, in ms, '' where never  13 retention in ms
-- Returns {'settled', now, seq, late, shares, overrun, crossed, rows to spare, body or ''}
--      or {'known', '', row} or {'unknown', seq of the dead letter or 0, rows to spare} or {'need', body}: the buckets of its meters are to be given

local bad = misfit() or overdue()
if bad then return bad end
local record = read_open(ARGV[6])
if not record then
  local row = redis.call('HGET', bucket_of(ARGV[7]), ARGV[7])
  if row and tonumber(string.match(row, '^%a:(%x+):'), 16) > now then
    if string.sub(row, 1, 1) == 's' then return {'known', '', row} end
    return {'unknown', 0, 0}
  end
  local dead_from = tonumber(ARGV[12])
  if not dead_from or now < dead_from then return {'unknown', 0, 0} end
  append('dead_letter', ARGV[6], '', '{"amounts":' .. ARGV[8] .. ',"facts":' .. ARGV[9] .. '}')
  remember(ARGV[7], 't', now + tonumber(ARGV[13]), 0, 0, 0, '')
  save()
  return {'unknown', seq, size * 56 - rows}
end
if not record.body then return {'lost', KEYS[4]} end
if not all_given(record.meters) then return {'need', record.body_text} end
local late, amounts = record.state ~= 'h', cjson.decode(ARGV[8])
local overrun, crossed = book(record, 'settle', amounts, ARGV[8], late and ARGV[10] or ARGV[9], function()
  local forgotten = now + record.body.retention_ms
  remember(ARGV[7], 's', forgotten, record.made, seq, amounts.usd or 0, record.fingerprint)
end)
redis.call('HDEL', KEYS[2], ARGV[6])
redis.call('ZREM', KEYS[3], ARGV[6])
return {'settled', now, seq, late and 1 or 0, record.shares, overrun, crossed, size * 56 - rows,
  ARGV[11] == '1' and '' or record.body_text, record.text}
