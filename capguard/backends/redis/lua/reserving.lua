-- What both ways of a reserve have: its numbers, whether it is still what the caller thinks, the entry, the open call.

local valid_from, valid_until, ttl, grace, retention, profile, policy, books, waits, checks, plain =
  struct.unpack('>ddddddddddd', ARGV[11])

-- Whether the command was built for another time, or from a profile or policy that has changed since.
local function stale()
  local seen = field_in(KEYS[5], ARGV[13])
  local in_force = tonumber(meta[6] or 0)
  local old_profile = ARGV[13] ~= '' and (seen and tonumber(string.match(seen, '^(%d+):')) or 0) ~= profile
  local old_policy = policy >= 0 and in_force ~= policy
  if not old_profile and not old_policy and valid_from <= now and now < valid_until then return nil end
  local document = old_policy and field_in(KEYS[6], num(in_force)) or ''
  return {'stale', seq, mark, now, old_profile and (seen or '0:{}') or '', old_policy and in_force or -1, document}
end

local function body_with(text, facts, more, shares)
  return text .. ',"facts":' .. facts .. '},"created_ms":' .. now_text .. more .. ',"shares":[' .. shares .. ']}'
end

local function open(shares)
  local expires = now + ttl
  put_open(ARGV[9], open_text('h', seq_text, seq_text, expires, ARGV[12], shares), expires + grace)
end
