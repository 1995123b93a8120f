-- grow: make one bucket more, and move the rows there that are its own from now on.
--
-- KEYS 9 the bucket that is divided  10 the new one
-- Returns {'grown', size, rows to spare}

local prefix = string.sub(KEYS[1], 1, -5)

-- Linear hashing: a store of n buckets grows one by one, and each new one takes half of one that is there.
local function bucket_of(field)
  local half = 1
  while half * 2 <= size do half = half * 2 end
  local n = tonumber(string.sub(field, 1, 8), 16) % (half * 2)
  if n >= size then n = n - half end
  return prefix .. 'b:' .. num(n)
end

-- Others may have made it meanwhile: two that lack room at once make one bucket, not two.
local mine = meta[1] == ARGV[2] and KEYS[10] == prefix .. 'b:' .. num(size) and size * 56 < rows
if mine and redis.call('HGET', KEYS[9], 'e') == meta[1] then
  size = size + 1
  local fields = redis.call('HGETALL', KEYS[9])
  redis.call('HSET', KEYS[10], 'e', meta[1])
  for i = 1, #fields, 2 do
    if #fields[i] >= 19 and bucket_of(fields[i]) == KEYS[10] then
      redis.call('HSET', KEYS[10], fields[i], fields[i + 1])
      redis.call('HDEL', KEYS[9], fields[i])
    end
  end
  redis.call('HSET', KEYS[1], 'size', num(size))
end
return {'grown', size, size * 56 - rows}
