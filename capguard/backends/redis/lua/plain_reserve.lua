-- The plain way of a reserve (plain.lua).

-- Hold the first candidate where all of it is plain and fits; nil where not, and nothing is written.
local function plainly()
  if plain ~= 1 or field_in(KEYS[2], ARGV[9]) or stale() then return nil end
  local row = redis.call('HMGET', KEYS[place()], 'e', ARGV[10])
  if row[1] ~= meta[1] or row[2] then return nil end
  local packed, units, amounts, shares, list = ARGV[16], ARGV[17], read_numbers(ARGV[19]), {}, {}
  for i = 1, #units do
    local bucket, _, field, _, limit, settled, held, overrun, gone = next_meter(packed, i)
    local amount = amounts[string.byte(units, i)] or 0
    if amount ~= 0 and not fits(settled, held, amount, limit) then return nil end
    shares[i] = amount
    add(list, bucket, field, period_text(settled, held + amount, overrun, gone))
  end
  local shares_text = numbers(shares)
  append('reserve', ARGV[9], ARGV[13], body_with(ARGV[20], ARGV[14], '', shares_text))
  write_rows(list)
  save_meta()
  open(shares_text)
  return {'held', seq, mark, now, 0, -1, shares, {}, {}, {}, size * 56 - rows}
end
