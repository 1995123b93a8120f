-- sweep: end what is overdue: expired holds are booked as their calls said, ended ones forgotten.
--
-- ARGV 6.. ids, in the order in which they are due
-- Returns {'swept', crossed}, where a crossing is {which id, leg, ppm, settled}; those whose buckets were not given stay

local bad = misfit()
if bad then return bad end
local crossed = {}

local function expire(record, which)
  local charge = record.body.on_expiry == 'charge_expected' and next(record.body.expected) ~= nil
  local expected = charge and record.body.expected or {}
  local names = {}
  for name in pairs(expected) do names[#names + 1] = name end
  local facts = charge and '{"flags":["uncertain"],"cause":"expired"}' or '{"cause":"expired"}'
  local _, found = book(record, 'expire', expected, object(names, expected), facts)
  record.state = 'e'
  write_open(record, now + record.body.retention_ms)
  for _, each in ipairs(found) do crossed[#crossed + 1] = {which, each[1], each[2], each[3]} end
end

for i = 6, #ARGV do
  local due = redis.call('ZSCORE', KEYS[3], ARGV[i])
  if due and tonumber(due) <= now then
    local record = read_open(ARGV[i])
    if not record or record.state ~= 'h' then
      redis.call('HDEL', KEYS[2], ARGV[i])
      redis.call('ZREM', KEYS[3], ARGV[i])
    elseif not record.body then
      return {'lost', KEYS[4]}
    elseif all_given(record.meters) then
      expire(record, i - 6)
    end
  end
end
return {'swept', crossed}
