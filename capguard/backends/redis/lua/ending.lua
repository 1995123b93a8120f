-- How a reservation ends: its hold is replaced by what is booked (capguard/ledger/ending.py).

local ENFORCING = {block = true, clamp = true, throttle = true}
local FULL_PPM = 1000000

-- A reservation out of the open ones: its text taken apart, and the body of the entry that made it.
local function read_open(id)
  local text = redis.call('HGET', KEYS[2], id)
  if not text then return nil end
  local state, made, entry, expires, fingerprint, shares = string.match(text, '^(%a):(%d+):(%d+):(%d+):(.*):([%d,]*)$')
  local record = {id = id, state = state, made = made, entry = entry, fingerprint = fingerprint, shares = {}}
  record.expires, record.text = tonumber(expires), text
  for share in string.gmatch(shares, '%d+') do record.shares[#record.shares + 1] = tonumber(share) end
  record.body, record.body_text = body_of(made)
  if record.body then
    record.meters = joined(record.body.legs, record.body.sources)
    record.user = record.body.identity.user
  end
  return record
end

local function write_open(record, due)
  local text = {record.state, record.made, record.entry, num(record.expires), record.fingerprint, numbers(record.shares)}
  redis.call('HSET', KEYS[2], record.id, table.concat(text, ':'))
  redis.call('ZADD', KEYS[3], num(due), record.id)
end

-- Remember an ended call that changes no more, in little room. One call in eight, by its digest and not by its number,
-- which may be odd for every settle, tidies the bucket that it comes into.
local function remember(field, state, forgotten, made, entry, usd, fingerprint)
  local text = string.format('%s:%x:%x:%x:%s:%s', state, forgotten, made, entry, num(usd), fingerprint)
  put(field, text)
  if string.sub(field, 1, 1) < '2' then tidy(bucket_of(field)) end
end

-- The window that is on now, for a leg whose period is not gone.
local function window_on(leg)
  if not rolling(leg) then return leg[SINCE], leg[PERIOD] end
  return now - (leg[ENDS] - leg[PERIOD]) + 1, now
end

local function own_of(record)
  local own = {}
  for i = #record.body.legs + 1, #record.shares do own[#own + 1] = record.shares[i] end
  return own
end

-- What `amounts` of a call that is in the books put on each of its meters.
local function shares_of(record, amounts)
  local body = record.body
  return shares_on(body.legs, body.sources, amounts, rooms_of_own(body.sources, own_of(record), record.user))
end

-- ceil(limit * ppm / 1e6), exactly: the product itself would be beyond 2^53.
local function mark_of(limit, ppm)
  local rest = limit % FULL_PPM
  return (limit - rest) / FULL_PPM * ppm + math.ceil(rest * ppm / FULL_PPM)
end

local function first_alert(leg, ppm)
  local cap = leg[CAP]
  local member = table.concat({leg[METER], num(leg[PERIOD]), num(ppm), #cap, cap .. leg[SCOPE]}, ':')
  redis.call('ZREMRANGEBYSCORE', KEYS[8], '-inf', num(now - 400 * 86400000))
  return redis.call('ZADD', KEYS[8], 'NX', num(now), member) == 1
end

-- The thresholds that meters crossed as they grew, each told once in its period: leg, ppm, settled.
local function crossings(thresholds, grown, crossed)
  for _, each in ipairs(grown) do
    local leg, growth, settled = each.leg, each.growth, each.settled
    local source = leg[ACTION] == 'included' or leg[ACTION] == 'grant'
    if growth > 0 and not rolling(leg) then
      for _, ppm in ipairs(source and {FULL_PPM} or thresholds) do
        local mark = mark_of(leg[LIMIT], ppm)
        if settled - growth < mark and mark <= settled and first_alert(leg, ppm) then
          crossed[#crossed + 1] = {each.number, ppm, settled}
        end
      end
    end
  end
end

local function move_text(leg, settled, held, overrun)
  return '["' .. leg[METER] .. '",' .. numbers({leg[PERIOD], settled, held, overrun}) .. ']'
end

local function object(names, amounts)
  local texts = {}
  for i, name in ipairs(names) do texts[i] = cjson.encode(name) .. ':' .. num(amounts[name]) end
  return '{' .. table.concat(texts, ',') .. '}'
end

-- Replace what `record` holds or has booked by `amounts`: the meters and the entry. `told` is the JSON of amounts, and
-- of facts; `remembering` writes what of the id shall be in its bucket. Returns overruns per unit, and crossings.
local function book(record, kind, amounts, amounts_text, facts_text, remembering)
  local holding, units, overrun, moves, grown = record.state == 'h', {}, {}, {}, {}
  local shares, excesses = shares_of(record, amounts), {}
  for i, leg in ipairs(record.meters) do -- all is read before anything is changed
    excesses[i] = 0
    local growth = shares[i] - record.shares[i]
    if growth > 0 and now < gone_of(leg) then
      local settled, held = state_of(leg, window_on(leg))
      excesses[i] = math.max(0, settled + held + growth - math.max(leg[LIMIT], settled + held))
    end
  end
  for i, leg in ipairs(record.meters) do
    local old, share, excess = record.shares[i], shares[i], excesses[i]
    if now < gone_of(leg) then
      if excess > 0 and ENFORCING[leg[ACTION]] then
        if not overrun[leg[UNIT]] then units[#units + 1] = leg[UNIT] end
        overrun[leg[UNIT]] = math.max(excess, overrun[leg[UNIT]] or 0)
      end
      local settled, held = share - old, 0
      if holding then settled, held = share, -old end
      moves[#moves + 1] = move_text(leg, settled, held, excess)
      grown[#grown + 1] = {leg = leg, number = i, growth = settled, settled = move(leg, settled, held, excess)}
      if holding and kind == 'settle' and leg[IDLE] and leg[IDLE] > 0 then keep(leg, now + leg[IDLE]) end
    end
  end
  if #units > 0 then -- what stands last in JSON holds: the caller knows better where it says so itself
    local cause = holding and '{"cause":"above_estimate"' or '{"cause":"late"'
    facts_text = cause .. (facts_text == '{}' and '' or ',') .. string.sub(facts_text, 2)
  end
  append(kind, record.id, record.user or '', table.concat({
    '{"amounts":', amounts_text, ',"facts":', facts_text, ',"overrun":', object(units, overrun),
    ',"moves":[', table.concat(moves, ','), ']}'}))
  if remembering then remembering() end
  save()
  record.shares, record.entry = shares, num(seq)
  local crossed = {}
  crossings(record.body.thresholds, grown, crossed)
  local over = {}
  for _, unit in ipairs(units) do
    over[#over + 1] = unit
    over[#over + 1] = overrun[unit]
  end
  return over, crossed
end
