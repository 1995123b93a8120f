-- Who pays: the included allowance, then grants in their order, then nobody (capguard/ledger/sources.py).

-- The one inequality: whether so much more goes on a meter.
local function fits(settled, held, amount, limit)
  return settled + held + amount <= limit
end

-- What a call puts on every leg, then what it draws from every source that has `rooms` to pay. `meters` are `count`
-- legs and then the sources, `amounts` are by the number of the unit.
local function shares_on(meters, count, amounts, rooms)
  local shares, included, granted = {}, 0, 0
  local unit = meters[count + 1] and meters[count + 1][UNIT]
  local left = unit and amounts[unit] or 0
  for i = count + 1, #meters do
    local draw = math.min(left, math.max(0, rooms[i]))
    left = left - draw
    shares[i] = draw
    if meters[i][ACTION] == INCLUDED then included = included + draw else granted = granted + draw end
  end
  for i = 1, count do
    local leg = meters[i]
    local amount = amounts[leg[UNIT]] or 0
    if leg[UNIT] == unit then
      if leg[OVERAGE_ONLY] == 1 then amount = amount - included end
      if leg[IGNORE_GRANTS] == 1 then amount = amount - granted end
    end
    shares[i] = amount
  end
  return shares
end

-- The user's grants that were revoked, by the name of their cap.
local function revoked_grants(user) -- seldom
  local revoked, text = {}, user ~= '' and field_in(KEYS[5], user)
  if text then
    for _, grant in ipairs(cjson.decode(string.match(text, '^%d+:(.*)$')).grants or {}) do
      if grant.revoked_ms then revoked[grant.id] = true end
    end
  end
  return revoked
end
