-- steer: put a user's profile in the place of the one that the caller has read.
--
-- ARGV 6 user  7 the revision that was read  8 revision:profile  9 kind  10 id  11 body of the entry
-- Returns {'steered', now} or {'overtaken'}

local bad = misfit()
if bad then return bad end
local text = redis.call('HGET', KEYS[5], ARGV[6]) or '0:{}'
if string.match(text, '^(%d+):') ~= ARGV[7] then return {'overtaken'} end
append(ARGV[9], ARGV[10], ARGV[6], ARGV[11])
redis.call('HSET', KEYS[5], ARGV[6], ARGV[8])
save()
return {'steered', now}
