-- settle: book what a call cost: once, even late, even twice sent.
--
-- ARGV 9.. the reservation (ending.lua)  17 amounts, by the number of the unit  18 amounts, JSON  19 facts, JSON
--      20 numbers: from when on an id that is not remembered is a dead letter, in ms, or never; retention in ms;
--      US dollars; whether it may be plain
-- Returns {'settled', seq, mark, late, shares, overrun, crossed, rows to spare, open text}
--      or {'known', seq, mark, row} or {'unknown', seq, mark, number of the dead letter or 0, rows to spare}
--      or {'need', seq, mark, number of an entry, its body}: that is what the caller has to know first

-- An id that is not open: it is remembered as ended, or its cost goes into a dead letter, or nothing is known of it.
local function settle_unknown(record) -- seldom
  local row = ended(record.row)
  if row and string.sub(row, 1, 1) == 's' then return {'known', seq, mark, row} end
  if row or now < dead_from then return {'unknown', seq, mark, 0, 0} end
  append('dead_letter', record.id, '', '{"amounts":' .. ARGV[18] .. ',"facts":' .. ARGV[19] .. '}')
  remember(record.bucket, record.row, 't', now + retention, 0, 0, 0, '')
  save()
  return {'unknown', seq, mark, seq, size * 56 - rows}
end

local function decide() -- seldom
  placed = -1
  local record = read_record(9)
  if not record.text then return settle_unknown(record) end
  if not record.meters then return needed(record) end
  local late, facts = record.state ~= 'h', ARGV[19]
  if late then facts = string.sub(facts, 1, -2) .. (facts == '{}' and '' or ',') .. '"late":true}' end
  local overrun, crossed = book(record, 'settle', read_numbers(ARGV[17]), ARGV[18], facts)
  remember(record.bucket, record.row, 's', now + record.retention, record.made, seq, dollars, record.fingerprint)
  save()
  close(record.id)
  tell(crossed)
  return {'settled', seq, mark, late and 1 or 0, record.shares, overrun, crossed, size * 56 - rows, record.text}
end

return misfit() or overdue() or plainly() or decide()
