-- The plain way, which most calls go: no cap rolls or idles, the caller alone pays, nothing is beyond a limit or crosses a
-- threshold. What else might be is not made ready, which costs more than the step itself. Where anything is otherwise,
-- nothing is written and decide() takes the call from its beginning. packing.py says which calls may be plain.

local HEAD = '>c24c30dddd'

-- The next meter of packed legs, as it stands; until when its row is kept, and until when its period counts.
local function next_meter(packed, i)
  local bucket = place()
  local meter, field, period, limit, _, ends = struct.unpack(HEAD, packed, (i - 1) * LEG_BYTES + 1)
  local found = redis.call('HMGET', KEYS[bucket], 'e', field)
  if found[1] ~= meta[1] then lost(KEYS[bucket]) end
  local settled, held, overrun, gone = 0, 0, 0, 0
  if found[2] then settled, held, overrun, gone = read_period(found[2]) end
  return bucket, meter, field, period, limit, settled, held, overrun, math.max(gone, gone_at(ends)), gone_at(ends)
end

-- Add a row to what is to be written, which is kept by bucket.
local function add(list, bucket, field, text)
  local words = list[bucket]
  if words then
    words[#words + 1], words[#words + 2] = field, text
  else
    list[bucket] = {field, text}
  end
end

local function write_rows(list)
  for bucket, words in pairs(list) do rows = rows + redis.call('HSET', KEYS[bucket], unpack(words)) end
end
