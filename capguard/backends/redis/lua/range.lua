-- range: entries of the journal, or members of the refusals or the alerts with their scores.
--
-- ARGV 9 'log' with 10 first and 11 last number, 12 how many; 'newest';
--      'refused' or 'alerts' with 10 lowest and 11 highest score
-- Returns {'range', seq, mark, what was found}

local bad = misfit()
if bad then return bad end
local what, low, high = ARGV[9], ARGV[10], ARGV[11]
if what == 'log' then return {'range', seq, mark, redis.call('XRANGE', KEYS[4], low, high, 'COUNT', ARGV[12])} end
if what == 'newest' then return {'range', seq, mark, redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 1)} end
local key = what == 'refused' and KEYS[7] or KEYS[8]
return {'range', seq, mark, redis.call('ZRANGEBYSCORE', key, low, high, 'WITHSCORES')}
