-- Who pays: the included allowance, then grants in their order, then nobody (capguard/ledger/sources.py).

-- What a call puts on every leg, then what it draws from every source that has `rooms` to pay.
local function shares_on(legs, sources, amounts, rooms)
  local shares, draws, included, granted = {}, {}, 0, 0
  local unit = sources[1] and sources[1][UNIT]
  local left = unit and amounts[unit] or 0
  for i, source in ipairs(sources) do
    local draw = math.min(left, math.max(0, rooms[i]))
    left = left - draw
    draws[i] = draw
    if source[ACTION] == 'included' then included = included + draw else granted = granted + draw end
  end
  for i, leg in ipairs(legs) do
    local amount = amounts[leg[UNIT]] or 0
    if leg[UNIT] == unit then
      if leg[OVERAGE_ONLY] then amount = amount - included end
      if leg[IGNORE_GRANTS] then amount = amount - granted end
    end
    shares[i] = amount
  end
  return joined(shares, draws)
end

-- The user's grants that were revoked, by id.
local function revoked_grants(user)
  local revoked, text = {}, user and redis.call('HGET', KEYS[5], user)
  if text then
    for _, grant in ipairs(cjson.decode(string.match(text, '^%d+:(.*)$')).grants or {}) do
      if grant.revoked_ms then revoked[grant.id] = true end
    end
  end
  return revoked
end

-- What each source can pay for a call that has `own` of it already, which is the call's for good.
local function rooms_of_own(sources, own, user)
  local rooms, revoked = {}, nil
  for i, source in ipairs(sources) do
    local grant = source[ACTION] == 'grant'
    if grant and not revoked then revoked = revoked_grants(user) end
    if grant and (revoked[source[CAP]] or now >= source[ENDS]) then
      rooms[i] = own[i]
    else
      local settled, held = state_of(source, source[SINCE], source[PERIOD])
      rooms[i] = math.max(own[i], source[LIMIT] - settled - held + own[i])
    end
  end
  return rooms
end
