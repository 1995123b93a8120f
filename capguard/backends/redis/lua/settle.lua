-- settle: book what a call cost: once, even late, even twice sent.
--
-- ARGV 6 id  7 its row  8 amounts, JSON  9 facts, JSON  10 facts of a late one, JSON  11 '1' where the caller has the body
-- Returns {'settled', now, seq, late, shares, overrun, crossed, rows to spare, body or ''}
--      or {'known', '', row} or {'unknown'} or {'need', body}: the buckets of its meters are to be given

local bad = misfit() or overdue()
if bad then return bad end
local record = read_open(ARGV[6])
if not record then
  local row = redis.call('HGET', bucket_of(ARGV[7]), ARGV[7])
  if row and string.sub(row, 1, 1) == 's' and tonumber(string.match(row, '^%a:(%x+):'), 16) > now then
    return {'known', '', row}
  end
  return {'unknown'}
end
if not record.body then return {'lost', KEYS[4]} end
if not all_given(record.meters) then return {'need', record.body_text} end
local late, amounts = record.state ~= 'h', cjson.decode(ARGV[8])
local overrun, crossed = book(record, 'settle', amounts, ARGV[8], late and ARGV[10] or ARGV[9], function()
  local forgotten = now + record.body.retention_ms
  remember(ARGV[7], 's', forgotten, record.made, seq + 1, amounts.usd or 0, record.fingerprint)
end)
redis.call('HDEL', KEYS[2], ARGV[6])
redis.call('ZREM', KEYS[3], ARGV[6])
return {'settled', now, seq, late and 1 or 0, record.shares, overrun, crossed, size * 56 - rows,
  ARGV[11] == '1' and '' or record.body_text, record.text}
