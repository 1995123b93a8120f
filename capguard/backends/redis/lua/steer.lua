-- steer: put a user's profile in the place of the one that the caller has read.
--
-- ARGV 9 user  10 the revision that was read  11 revision:profile  12 kind  13 id  14 body of the entry
-- Returns {'steered', seq, mark, now} or {'overtaken', seq, mark}

local bad = misfit()
if bad then return bad end
local text = field_in(KEYS[5], ARGV[9]) or '0:{}'
if string.match(text, '^(%d+):') ~= ARGV[10] then return {'overtaken', seq, mark} end
append(ARGV[12], ARGV[13], ARGV[9], ARGV[14])
redis.call('HSET', KEYS[5], ARGV[9], ARGV[11])
save()
return {'steered', seq, mark, now}
