-- How a reservation ends: its hold is replaced by what is booked (capguard/ledger/ending.py).

local FULL_PPM = 1000000

-- Whether a cap of this action refuses.
local function enforcing(leg) return leg[ACTION] <= THROTTLE end

local OPEN = '^(%a):(%d+):(%d+):(%d+):(.*):([%d,]*)$'

local function open_text(state, made, entry, expires, fingerprint, shares)
  return state .. ':' .. made .. ':' .. entry .. ':' .. num(expires) .. ':' .. fingerprint .. ':' .. shares
end

-- What the caller says was made of a reservation, into its record.
local function read_made(record, at)
  local meters, told = read_legs(ARGV[at + 4], ARGV[at + 5]), read_numbers(ARGV[at + 6])
  if record.made ~= ARGV[at + 2] then return end
  record.meters, record.count, record.retention, record.grace, record.created = meters, told[1], told[2], told[3], told[4]
  record.thresholds = {unpack(told, 5)}
  want_legs(meters)
end

-- A reservation out of the open ones, and what the caller says was made of it, from ARGV `at` on:
--   id, its row, the number of the entry that made it or '', user, legs and sources, their units,
--   numbers: how many legs, retention in ms, grace in ms, created in ms, thresholds; names, JSON: of units, of sources' caps
-- Where the caller does not know the entry, or another one, the record has no meters.
local function read_record(at)
  local id, row = ARGV[at], ARGV[at + 1]
  local record = {id = id, row = row, bucket = place(), user = ARGV[at + 3], names = ARGV[at + 7]}
  want(record.bucket, row)
  local text = field_in(KEYS[2], id)
  if text then
    local state, made, entry, expires, fingerprint, list = string.match(text, OPEN)
    if not state then error('a call that reads ' .. text) end
    local shares = {}
    for share in string.gmatch(list, '%d+') do shares[#shares + 1] = tonumber(share) end
    record.text, record.state, record.made, record.entry, record.fingerprint = text, state, made, entry, fingerprint
    record.expires, record.shares = tonumber(expires), shares
  end
  if ARGV[at + 2] ~= '' then read_made(record, at) end
  fetch()
  return record
end

-- What the caller has to know of a reservation first.
local function needed(record) -- seldom
  local body = body_of(record.made)
  return body and {'need', seq, mark, tonumber(record.made), body} or {'lost', KEYS[4]}
end

local function put_open(id, text, due)
  redis.call('HSET', KEYS[2], id, text)
  redis.call('ZADD', KEYS[3], num(due), id)
end

local function write_open(record, due)
  record.text = open_text(record.state, record.made, record.entry, record.expires, record.fingerprint,
    numbers(record.shares))
  put_open(record.id, record.text, due)
end

-- Drop what is over from a bucket that is at hand: ids that are forgotten, meters that are gone.
local function tidy(bucket) -- seldom
  local fields, over = redis.call('HGETALL', KEYS[bucket]), {}
  for i = 1, #fields, 2 do
    if fields[i] ~= 'e' and #over < MANY and read_row(fields[i], fields[i + 1]).gone <= now then
      over[#over + 1] = fields[i]
    end
  end
  if #over > 0 then rows = rows - redis.call('HDEL', KEYS[bucket], unpack(over)) end
end

local function ended_text(state, forgotten, made, entry, usd, fingerprint)
  return string.format('%s:%x:%x:%x:%d:%s', state, forgotten, made, entry, usd, fingerprint)
end

-- One ended call in sixteen, by its digest and not by its number, which may be odd for every settle, tidies the bucket
-- that it comes into.
local function tidy_at_times(bucket, field)
  if string.sub(field, 1, 1) == '0' then tidy(bucket) end
end

-- Remember an ended call that changes no more, in little room.
local function remember(bucket, field, state, forgotten, made, entry, usd, fingerprint)
  tidy_at_times(bucket, field)
  put(bucket, field, ended_text(state, forgotten, made, entry, usd, fingerprint))
end

-- The window that is on now, for a leg whose period is not gone.
local function window_on(leg)
  if not rolling(leg) then return leg[SINCE], leg[PERIOD] end
  return now - (leg[ENDS] - leg[PERIOD]) + 1, now
end

-- What each source can pay for a call that has its own part of it already, which is the call's for good.
local function rooms_of_own(record) -- seldom
  local rooms, revoked, names = {}, nil, nil
  for i = record.count + 1, #record.meters do
    local source, own = record.meters[i], record.shares[i]
    local grant = source[ACTION] == GRANT
    if grant and not revoked then revoked, names = revoked_grants(record.user), cjson.decode(record.names)[2] end
    if grant and (revoked[names[i - record.count]] or now >= source[ENDS]) then
      rooms[i] = own
    else
      local settled, held = state_of(source, source[SINCE], source[PERIOD])
      rooms[i] = math.max(own, source[LIMIT] - settled - held + own)
    end
  end
  return rooms
end

-- What `amounts` of a call that is in the books put on each of its meters.
local function shares_of(record, amounts)
  local rooms = #record.meters > record.count and rooms_of_own(record)
  return shares_on(record.meters, record.count, amounts, rooms)
end

-- Whether a threshold of so many millionths lies between what is settled now and what will be.
local function crosses(limit, ppm, before, after)
  local rest = limit % FULL_PPM -- ceil(limit * ppm / 1e6), exactly: the product would be beyond 2^53
  local at = (limit - rest) / FULL_PPM * ppm + math.ceil(rest * ppm / FULL_PPM)
  return before < at and at <= after
end

-- The thresholds that meters are about to cross as they grow, each told once in its period: number, ppm, settled, and
-- the member that says so. `body` gives the body of the entry, which has the names.
local function crossings(meters, count, growths, thresholds, body)
  local crossed, names = {}, nil
  if #thresholds == 0 and count == #meters then return crossed end
  for i, leg in ipairs(meters) do
    local growth = growths[i]
    if growth > 0 and not rolling(leg) then
      local settled = state_of(leg, leg[SINCE], leg[PERIOD]) + growth
      for _, ppm in ipairs(leg[ACTION] >= INCLUDED and {FULL_PPM} or thresholds) do
        if crosses(leg[LIMIT], ppm, settled - growth, settled) then
          if not names then
            local made = cjson.decode(body() or lost(KEYS[4]))
            names = joined(made.legs, made.sources)
          end
          local cap = names[i][6]
          local member = table.concat({leg[METER], num(leg[PERIOD]), num(ppm), #cap, cap .. names[i][9]}, ':')
          if not redis.call('ZSCORE', KEYS[8], member) then crossed[#crossed + 1] = {i, ppm, settled, member} end
        end
      end
    end
  end
  return crossed
end

local function tell_of(crossed) -- seldom
  for _, each in ipairs(crossed) do
    redis.call('ZADD', KEYS[8], num(now), table.remove(each))
    redis.call('ZREMRANGEBYSCORE', KEYS[8], '-inf', num(now - 400 * 86400000))
  end
end

local function tell(crossed)
  if #crossed > 0 then tell_of(crossed) end
end

local function move_text(meter, period, settled, held, overrun)
  return string.format('["%s",%d,%d,%d,%d]', meter, period, settled, held, overrun)
end

-- What of `growth` lies beyond the limit of a meter.
local function excess_of(leg, growth)
  local settled, held = state_of(leg, window_on(leg))
  return math.max(0, settled + held + growth - math.max(leg[LIMIT], settled + held))
end

-- The parts of a booking that lie beyond limits, by meter, and the most of them by the number of the unit.
local function excesses_of(record, shares)
  local excesses, overrun, units = {}, {}, {}
  for i, leg in ipairs(record.meters) do
    local growth, excess = shares[i] - record.shares[i], 0
    if growth > 0 and now < gone_of(leg) then excess = excess_of(leg, growth) end
    excesses[i] = excess
    if excess > 0 and enforcing(leg) then
      if not overrun[leg[UNIT]] then units[#units + 1] = leg[UNIT] end
      overrun[leg[UNIT]] = math.max(excess, overrun[leg[UNIT]] or 0)
    end
  end
  return excesses, overrun, units
end

-- The overruns as JSON, and as a list of numbers of units with their amounts; the facts with their cause.
local function overrun_told(record, overrun, units, facts) -- seldom
  local names, texts, list = cjson.decode(record.names)[1], {}, {}
  for i, unit in ipairs(units) do
    texts[i] = cjson.encode(names[unit]) .. ':' .. num(overrun[unit])
    list[#list + 1], list[#list + 2] = unit, overrun[unit]
  end
  -- what stands last in JSON holds: the caller knows better where it says so itself
  local cause = record.state == 'h' and '{"cause":"above_estimate"' or '{"cause":"late"'
  return '{' .. table.concat(texts, ',') .. '}', list, cause .. (facts == '{}' and '' or ',') .. string.sub(facts, 2)
end

local function booked_text(amounts, facts, overrun, moves)
  return '{"amounts":' .. amounts .. ',"facts":' .. facts .. ',"overrun":' .. overrun .. ',"moves":[' ..
    table.concat(moves, ',') .. ']}'
end

-- Replace what `record` holds or has booked by `amounts`, by the number of the unit: the meters and the entry, which
-- the caller saves. The texts are the JSON of amounts and of facts. Returns overruns, and what was crossed.
local function book(record, kind, amounts, amounts_text, facts_text)
  local holding, moves, growths, moved = record.state == 'h', {}, {}, {}
  local shares = shares_of(record, amounts)
  local excesses, overrun, told = excesses_of(record, shares)
  for i, leg in ipairs(record.meters) do
    local old, share = record.shares[i], shares[i]
    growths[i] = 0
    if now < gone_of(leg) then
      local settled, held = share - old, 0
      if holding then settled, held = share, -old end
      growths[i], moved[i] = settled, held
      moves[#moves + 1] = move_text(leg[METER], leg[PERIOD], settled, held, excesses[i])
    end
  end
  local crossed = crossings(record.meters, record.count, growths, record.thresholds, function() return body_of(record.made) end)
  local overrun_text = '{}'
  if #told > 0 then overrun_text, told, facts_text = overrun_told(record, overrun, told, facts_text) end
  append(kind, record.id, record.user, booked_text(amounts_text, facts_text, overrun_text, moves))
  for i, leg in ipairs(record.meters) do
    if moved[i] then
      move(leg, growths[i], moved[i], excesses[i])
      if holding and kind == 'settle' and leg[IDLE] > 0 then keep(leg, now + leg[IDLE]) end
    end
  end
  record.shares, record.entry = shares, seq_text
  return told, crossed
end
