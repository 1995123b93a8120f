-- scan: the rows of the buckets given, and the open reservations where they are asked for, as they are at one entry.
--
-- ARGV 6 '1' for the open reservations
-- Returns {'rows', seq, now, {open id, text ...}, {field, text ...} per bucket}

local bad = misfit()
if bad then return bad end
local reply = {'rows', seq, now, ARGV[6] == '1' and redis.call('HGETALL', KEYS[2]) or {}}
for i = 9, #KEYS do reply[#reply + 1] = redis.call('HGETALL', KEYS[i]) end
return reply
