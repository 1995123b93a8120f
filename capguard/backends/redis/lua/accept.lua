-- accept: go on with what is left of a store that has lost something, as a new epoch that follows any other.
--
-- KEYS 9.. every bucket there should be
-- ARGV 9 the new epoch  10 how it is sharded
-- Returns {'size', size} where other buckets are to be given, or {'accepted', calls that were dropped}

if not meta[1] then
  seq, size, rows = seq or 0, size or 1, rows or 0
end
if #KEYS - 8 ~= size then return {'size', size} end
local newest = redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 1)[1]
local mark = ARGV[6]
if newest then
  local number = tonumber(string.match(newest[1], '^%d+'))
  seq = math.max(seq, number)
  if seq == number then mark = newest[2][12] or mark end -- what is compared from now on is what the entry bears
end
rows = 0
for i = 9, #KEYS do
  redis.call('HSET', KEYS[i], 'e', ARGV[9])
  rows = rows + redis.call('HLEN', KEYS[i]) - 1
end
local policy, dropped = 0, 0
for _, revision in ipairs(redis.call('HKEYS', KEYS[6])) do policy = math.max(policy, tonumber(revision) or 0) end
local open = redis.call('HGETALL', KEYS[2])
for i = 1, #open, 2 do -- a call whose entry is gone can be booked on no meter
  local made = string.match(open[i + 1], '^%a:(%d+):')
  if open[i] ~= '' and not (made and redis.call('XRANGE', KEYS[4], made .. '-0', made .. '-0')[1]) then
    redis.call('HDEL', KEYS[2], open[i])
    redis.call('ZREM', KEYS[3], open[i])
    dropped = dropped + 1
  elseif made and not redis.call('ZSCORE', KEYS[3], open[i]) then -- due at once: what it holds is on its meters
    redis.call('ZADD', KEYS[3], string.match(open[i + 1], '^%a:%d+:%d+:(%d+):'), open[i])
  end
end
for _, id in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  if redis.call('HEXISTS', KEYS[2], id) == 0 then redis.call('ZREM', KEYS[3], id) end
end
local ledger = redis.call('HGET', KEYS[1], 'ledger') or redis.call('HGET', KEYS[6], '') or ARGV[9]
for _, key in ipairs({KEYS[2], KEYS[5], KEYS[6]}) do redis.call('HSET', key, '', ledger) end
redis.call('ZADD', KEYS[3], num(FOREVER), '')
if seq > 0 and redis.call('EXISTS', KEYS[4]) == 0 then -- the journal goes on, empty, at the number where it was
  redis.call('XADD', KEYS[4], num(seq) .. '-0', 't', num(now), 'k', 'accept', 'i', '', 'u', '', 'b', '{}', 'n', ARGV[6])
  redis.call('XDEL', KEYS[4], num(seq) .. '-0')
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[9], 'follows', 'any', 'seq', num(seq), 'mark', mark, 'now', num(now),
  'size', num(size), 'rows', num(rows), 'policy', num(policy), 'layout', ARGV[10],
  'ledger', ledger)
return {'accepted', dropped}
