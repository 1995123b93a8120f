-- scan: the rows of the buckets given, and the open reservations where they are asked for, as they are at one entry.
--
-- ARGV 9 '1' for the open reservations
-- Returns {'rows', seq, mark, now, {open id, text ...}, {field, text ...} per bucket}

local bad = misfit()
if bad then return bad end
field_in(KEYS[2], '')
local reply = {'rows', seq, mark, now, ARGV[9] == '1' and redis.call('HGETALL', KEYS[2]) or {}}
for i = 9, #KEYS do
  if redis.call('HGET', KEYS[i], 'e') ~= meta[1] then return {'lost', KEYS[i]} end
  reply[#reply + 1] = redis.call('HGETALL', KEYS[i])
end
return reply
