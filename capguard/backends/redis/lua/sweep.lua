-- sweep: end what is overdue: expired holds are booked as their calls said, ended ones forgotten.
--
-- ARGV 9.. of each id, in the order in which they are due, 11 of them: the reservation (ending.lua),
--      what to book, by the number of the unit, the same as JSON, facts, JSON
-- Returns {'swept', seq, mark, crossed, rows to spare}, where a crossing is {which id, leg, ppm, settled}; those that the
--      caller does not know stay

local bad = misfit()
if bad then return bad end
local crossed = {}

local function expire(record, at, which)
  local _, found = book(record, 'expire', read_numbers(ARGV[at]), ARGV[at + 1], ARGV[at + 2])
  save()
  record.state = 'e'
  write_open(record, now + record.retention)
  tell(found)
  for _, each in ipairs(found) do crossed[#crossed + 1] = {which, each[1], each[2], each[3]} end
end

for at = 9, #ARGV, 11 do
  local due = redis.call('ZSCORE', KEYS[3], ARGV[at])
  local record = read_record(at)
  if due and tonumber(due) <= now then
    if record.state ~= 'h' then
      redis.call('HDEL', KEYS[2], record.id)
      redis.call('ZREM', KEYS[3], record.id)
    elseif record.meters then
      expire(record, at + 8, (at - 9) / 11)
    end
  end
end
return {'swept', seq, mark, crossed, size * 56 - rows}
