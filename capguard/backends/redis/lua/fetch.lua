-- fetch: what is remembered of one id and one user, and the policy in force.
--
-- ARGV 6 id or ''  7 its row  8 user or ''  9 a policy's revision or '' for the one in force
-- Returns {'found', now, seq, open text or '', row or '', revision:profile, revision of the policy in force, policy or ''}

local bad = misfit()
if bad then return bad end
local text, row = redis.call('HGET', KEYS[2], ARGV[6]) or '', ''
if ARGV[7] ~= '' then row = redis.call('HGET', bucket_of(ARGV[7]), ARGV[7]) or '' end
if row ~= '' and tonumber(string.match(row, '^%a:(%x+):'), 16) <= now then row = '' end
local profile = redis.call('HGET', KEYS[5], ARGV[8]) or '0:{}'
local policy = redis.call('HGET', KEYS[6], ARGV[9] ~= '' and ARGV[9] or meta[6]) or ''
return {'found', now, seq, text, row, profile, tonumber(meta[6]), policy}
