-- start: what a process has to know of a store; a new one is set up, unless nobody may.
--
-- KEYS 9 the first bucket
-- ARGV 9 the epoch of a new store, '' where there is to be one already  10 how a new one is sharded, '' for not at all
-- Returns {'started', epoch, seq, mark, size, how it is sharded, version of the server or 0, its INFO}
--      or {'void'} or {'lost', key}

if num(FOREVER) ~= '9007199254740991' then error('a server of 32 bits cannot count that far') end
if not meta[1] then
  for i = 2, #KEYS do
    if redis.call('EXISTS', KEYS[i]) == 1 then return {'lost', KEYS[1]} end
  end
  if ARGV[9] == '' then return {'void'} end
  meta[1], seq, size, mark = ARGV[9], 0, 1, ''
  for _, key in ipairs({KEYS[2], KEYS[5], KEYS[6]}) do redis.call('HSET', key, '', meta[1]) end
  redis.call('ZADD', KEYS[3], num(FOREVER), '')
  redis.call('HSET', KEYS[9], 'e', meta[1])
  redis.call('HSET', KEYS[1], 'epoch', meta[1], 'seq', 0, 'mark', '', 'now', 0, 'size', 1, 'rows', 0, 'policy', 0,
    'layout', ARGV[10], 'ledger', meta[1])
end
local info = ''
for _, section in ipairs({'memory', 'persistence'}) do
  local part = redis.pcall('INFO', section)
  if type(part) == 'string' then info = info .. part end -- a user of few rights may not ask
end
local layout = redis.call('HGET', KEYS[1], 'layout') or ''
return {'started', meta[1], seq, mark, size, layout, redis.REDIS_VERSION_NUM or 0, info}
