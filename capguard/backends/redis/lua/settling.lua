-- What both ways of a settle have: its numbers, and the end of an open call.

local dead_from, retention, dollars, plain = struct.unpack('>dddd', ARGV[20])

local function close(id)
  redis.call('HDEL', KEYS[2], id)
  redis.call('ZREM', KEYS[3], id)
end
