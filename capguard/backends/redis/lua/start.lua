-- start: what a process has to know of a store; a new one is set up, unless nobody may.
--
-- ARGV 6 the epoch of a new store, '' where there is to be one already
-- Returns {'started', epoch, seq, size, version of the server or 0, its INFO} or {'void'} or {'lost', key}

if not meta[1] then
  for i = 2, #KEYS do
    if redis.call('EXISTS', KEYS[i]) == 1 then return {'lost', KEYS[1]} end
  end
  if ARGV[6] == '' then return {'void'} end
  meta[1], seq, size = ARGV[6], 0, 1
  redis.call('HSET', KEYS[9], 'e', ARGV[6])
  redis.call('HSET', KEYS[1], 'epoch', ARGV[6], 'seq', 0, 'now', 0, 'size', 1, 'rows', 0, 'policy', 0)
end
local info = ''
for _, section in ipairs({'memory', 'persistence'}) do
  local part = redis.pcall('INFO', section)
  if type(part) == 'string' then info = info .. part end -- a user of few rights may not ask
end
return {'started', meta[1], seq, size, redis.REDIS_VERSION_NUM or 0, info}
