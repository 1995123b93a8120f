-- settle: book what a call cost: once, even late, even twice sent.
--
-- ARGV 9.. the reservation (ending.lua)  17 amounts, by the number of the unit  18 amounts, JSON  19 facts, JSON
--      20 numbers: from when on an id that is not remembered is a dead letter, in ms, or never; retention in ms; US dollars
-- Returns {'settled', seq, mark, late, shares, overrun, crossed, rows to spare, open text}
--      or {'known', seq, mark, row} or {'unknown', seq, mark, number of the dead letter or 0, rows to spare}
--      or {'need', seq, mark, number of an entry, its body}: that is what the caller has to know first

local bad = misfit() or overdue()
if bad then return bad end
local record, told = read_record(9), read_numbers(ARGV[20])
if not record.text then
  local row = ended(record.row)
  if row then
    if string.sub(row, 1, 1) == 's' then return {'known', seq, mark, row} end
    return {'unknown', seq, mark, 0, 0}
  end
  if now < told[1] then return {'unknown', seq, mark, 0, 0} end
  append('dead_letter', record.id, '', '{"amounts":' .. ARGV[18] .. ',"facts":' .. ARGV[19] .. '}')
  remember(record.bucket, record.row, 't', now + told[2], 0, 0, 0, '')
  save()
  return {'unknown', seq, mark, seq, size * 56 - rows}
end
if not record.meters then return needed(record) end
local late, facts = record.state ~= 'h', ARGV[19]
if late then facts = string.sub(facts, 1, -2) .. (facts == '{}' and '' or ',') .. '"late":true}' end
local overrun, crossed = book(record, 'settle', read_numbers(ARGV[17]), ARGV[18], facts)
remember(record.bucket, record.row, 's', now + record.retention, record.made, seq, told[3], record.fingerprint)
save()
redis.call('HDEL', KEYS[2], record.id)
redis.call('ZREM', KEYS[3], record.id)
tell(crossed)
return {'settled', seq, mark, late and 1 or 0, record.shares, overrun, crossed, size * 56 - rows, record.text}
