-- fetch: what is remembered of one id and one user, and the policy in force.
--
-- ARGV 9 id or ''  10 its row  11 user or ''  12 a policy's revision or '' for the one in force
-- Returns {'found', seq, mark, now, open text or '', row or '', revision:profile, revision of the policy in force,
--      policy or ''}

local bad = misfit()
if bad then return bad end
local row
if ARGV[10] ~= '' then
  want(place(), ARGV[10])
  fetch()
  row = ended(ARGV[10])
end
local text, profile = field_in(KEYS[2], ARGV[9]), field_in(KEYS[5], ARGV[11])
local policy = field_in(KEYS[6], ARGV[12] ~= '' and ARGV[12] or meta[6])
return {'found', seq, mark, now, text or '', row or '', profile or '0:{}', tonumber(meta[6]), policy or ''}
