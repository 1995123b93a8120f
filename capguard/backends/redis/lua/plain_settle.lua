-- The plain way of a settle (plain.lua).

-- Whether a meter takes this with no more words: no limit and no threshold is touched.
local function takes(settled, held, old, share, limit, told)
  if share > old and not fits(settled, held, share - old, limit) then return false end
  for i = 5, #told do
    if crosses(limit, told[i], settled, settled + share) then return false end
  end
  return true
end

-- Settle a hold where all of it is plain; nil where not, and nothing is written.
local function plainly()
  local text = plain == 1 and field_in(KEYS[2], ARGV[9])
  if not text then return nil end
  local state, made, _, _, fingerprint, holds = string.match(text, OPEN)
  local own = place()
  if state ~= 'h' or made ~= ARGV[11] or redis.call('HGET', KEYS[own], 'e') ~= meta[1] then return nil end
  local packed, units, told, amounts = ARGV[13], ARGV[14], read_numbers(ARGV[15]), read_numbers(ARGV[17])
  local hold, shares, moves, list = string.gmatch(holds, '%d+'), {}, {}, {}
  for i = 1, #units do
    local bucket, meter, field, period, limit, settled, held, overrun, gone, closes = next_meter(packed, i)
    local old, share = tonumber(hold()), amounts[string.byte(units, i)] or 0
    if now >= closes or not takes(settled, held, old, share, limit, told) then return nil end
    shares[i], moves[i] = share, move_text(meter, period, share, -old, 0)
    add(list, bucket, field, period_text(settled + share, held - old, overrun, gone))
  end
  append('settle', ARGV[9], ARGV[12], booked_text(ARGV[18], ARGV[19], '{}', moves))
  tidy_at_times(own, ARGV[10])
  add(list, own, ARGV[10], ended_text('s', now + told[2], made, seq, dollars, fingerprint))
  write_rows(list)
  save_meta()
  close(ARGV[9])
  return {'settled', seq, mark, 0, shares, {}, {}, size * 56 - rows, text}
end
