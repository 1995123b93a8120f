-- Whether a call fits: admission, the way down the cheaper models, the output that still fits (capguard/ledger/judge.py).

local CLAMP_SHARE = 2

local function refuses(leg)
  return enforcing(leg) or (leg[ACTION] == DOWNGRADE and leg[OTHERWISE] == 1)
end

local function fits_on(leg, amount)
  local settled, held = state_of(leg, leg[SINCE], leg[PERIOD])
  return fits(settled, held, amount, leg[LIMIT])
end

-- What amounts put on each meter of a candidate.
local function on_each(candidate, amounts)
  local meters, rooms = candidate.meters, {}
  for i = candidate.count + 1, #meters do
    local settled, held = state_of(meters[i], meters[i][SINCE], meters[i][PERIOD])
    rooms[i] = meters[i][LIMIT] - settled - held
  end
  return shares_on(meters, candidate.count, amounts, rooms)
end

-- The legs that do not fit: which candidate's, which leg, the amount that was to go on it, the meter that it met.
local function misses_of(candidate, shares)
  local misses = {}
  for i = 1, candidate.count do
    local leg = candidate.meters[i]
    if shares[i] ~= 0 and not fits_on(leg, shares[i]) then
      misses[#misses + 1] = {candidate = candidate, number = i, leg = leg, amount = shares[i],
        meter = {state_of(leg, leg[SINCE], leg[PERIOD])}, frees = 0}
    end
  end
  return misses
end

-- When what is settled under a throttle cap will have left enough room.
local function timed(miss)
  local leg, periods = miss.leg, {}
  local lacking = miss.meter[1] + miss.amount - leg[LIMIT]
  local row = cache[leg[FIELD]]
  if rolling(leg) then
    for period in pairs(row.window) do
      if period >= leg[SINCE] and period <= leg[PERIOD] then periods[#periods + 1] = period end
    end
    table.sort(periods)
  elseif not row.new then
    periods = {leg[PERIOD]}
  end
  for _, period in ipairs(periods) do
    if lacking <= 0 then break end
    lacking = lacking - (rolling(leg) and row.window[period][1] or row[1])
    miss.frees = leg[ENDS] - (leg[PERIOD] - period)
  end
end

local function verdict_of(candidate, held, shares, steered, misses)
  local verdict = {candidate = candidate, held = held, shares = shares, passed = {}, refused = {}}
  local told, throttled = {}, true
  for _, miss in ipairs(steered) do
    if not told[miss.leg[METER]] then verdict.passed[#verdict.passed + 1] = miss end
    told[miss.leg[METER]] = true
  end
  for _, miss in ipairs(misses) do
    if refuses(miss.leg) then
      verdict.refused[#verdict.refused + 1] = miss
      throttled = throttled and miss.leg[ACTION] == THROTTLE
    elseif not told[miss.leg[METER]] then
      verdict.passed[#verdict.passed + 1] = miss
    end
  end
  if throttled then
    for _, miss in ipairs(verdict.refused) do timed(miss) end
  end
  return verdict
end

-- The same with the longest output that fits every clamp cap; as it was where not even the shortest does.
local function clamped(candidate, verdict, steered)
  local scale = cjson.decode(candidate.scale)

  -- The amounts with an output limit of so many tokens, rounded up: rates are thousandths of a part per token.
  local function scaled(output)
    local amounts = {}
    for i, base in ipairs(scale.base) do
      local thousandths = output * scale.rates[i]
      local rest = thousandths % 1000
      amounts[i] = base + (thousandths - rest) / 1000 + (rest > 0 and 1 or 0)
    end
    return amounts
  end

  local function clamp_fits(amounts)
    local shares = on_each(candidate, amounts)
    for i = 1, candidate.count do
      local leg = candidate.meters[i]
      if leg[ACTION] == CLAMP then
        local most = (leg[LIMIT] - leg[LIMIT] % CLAMP_SHARE) / CLAMP_SHARE
        if not fits_on(leg, shares[i]) or shares[i] > most then return false end
      end
    end
    return true
  end

  local clamps, low, high = {}, 0, scale.output - 1
  for _, miss in ipairs(verdict.refused) do
    if miss.leg[ACTION] == CLAMP then
      clamps[#clamps + 1] = miss
      low = math.max(low, miss.leg[MIN_OUTPUT])
    end
  end
  if low > high or not clamp_fits(scaled(low)) then
    local shortest = {}
    for _, miss in ipairs(misses_of(candidate, on_each(candidate, scaled(math.min(low, scale.output))))) do
      if refuses(miss.leg) then shortest[#shortest + 1] = miss end
    end
    if #shortest > 0 then verdict.refused = shortest end -- what even the shortest lacks says why
    return verdict
  end
  while low < high do
    local middle = math.floor((low + high + 1) / 2)
    if clamp_fits(scaled(middle)) then low = middle else high = middle - 1 end
  end
  local held = scaled(low)
  local shares = on_each(candidate, held)
  local found = verdict_of(candidate, held, shares, joined(steered, clamps), misses_of(candidate, shares))
  found.output, found.units = low, scale.units
  return found
end

-- A downgrade cap that does not fit names the next candidate; all other caps are judged on the chosen one.
local function judge_from(candidates, shares, misses) -- seldom
  local index, steered = 1, {}
  while true do
    local candidate, step, clamps = candidates[index], 0, false
    for _, miss in ipairs(misses) do
      local to = miss.leg[STEP] + 1
      if to > index and to <= #candidates then
        steered[#steered + 1] = miss
        step = math.max(step, to)
      end
      clamps = clamps or miss.leg[ACTION] == CLAMP
    end
    if step == 0 then
      local verdict = verdict_of(candidate, candidate.amounts, shares, steered, misses)
      return clamps and candidate.scale ~= '' and clamped(candidate, verdict, steered) or verdict
    end
    index = step
    shares = on_each(candidates[index], candidates[index].amounts)
    misses = misses_of(candidates[index], shares)
  end
end

local function judge(candidates)
  local first = candidates[1]
  local shares = on_each(first, first.amounts)
  local misses = misses_of(first, shares)
  if #misses > 0 then return judge_from(candidates, shares, misses) end
  return {candidate = first, held = first.amounts, shares = shares, passed = {}, refused = {}}
end
