-- range: entries of the journal, or members of the refusals or the alerts with their scores.
--
-- ARGV 6 'log' with 7 first and 8 last number, 9 how many; 'newest'; 'refused' or 'alerts' with 7 lowest and 8 highest score
-- Returns {'range', what was found}

local bad = misfit()
if bad then return bad end
local what, low, high = ARGV[6], ARGV[7], ARGV[8]
if what == 'log' then return {'range', redis.call('XRANGE', KEYS[4], low, high, 'COUNT', ARGV[9])} end
if what == 'newest' then return {'range', redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 1)} end
local key = what == 'refused' and KEYS[7] or KEYS[8]
return {'range', redis.call('ZRANGEBYSCORE', key, low, high, 'WITHSCORES')}
