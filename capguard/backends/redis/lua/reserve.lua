-- reserve: hold one candidate against all its caps, or none. check: the same decision, without its effect.
--
-- ARGV 9 id  10 its row  11 numbers: valid from, valid until, ttl, grace, retention, revisions of the profile and of
--      the policy or -1, whether to book, to wait, to check only, whether it may be plain  12 fingerprint  13 user
--      14 facts, JSON without its last brace  15 thresholds
--      16.. per candidate, 6 of them: its legs and sources, their units, how many of them are legs and which unit is US
--      dollars, amounts by the number of the unit, the entry's body as far as the caller knows it, JSON without its last
--      brace, its scale, JSON, or ''
-- Returns {'held', seq, mark, now, candidate, output or -1, shares, passed, crossed, runs, rows to spare}
--      or {'denied', seq, mark, now, candidate, refused, runs} or {'known', seq, mark, open text or '', row or ''}
--      or {'stale', seq, mark, ...}; a miss is {candidate, leg, amount, settled, held, overrun, frees}

local EACH = 6

local function said(misses)
  local list = {}
  for i, miss in ipairs(misses) do
    local meter = miss.meter
    list[i] = {miss.candidate.index, miss.number, miss.amount, meter[1], meter[2], meter[3], miss.frees}
  end
  return list
end

local function known()
  local text = field_in(KEYS[2], ARGV[9])
  if text then return {'known', seq, mark, text, ''} end
  local row = ended(ARGV[10])
  if row then return {'known', seq, mark, '', row} end
end

-- The runs of idle meters: {candidate, leg, period, ends}.
local function runs_of(list) -- seldom
  local runs = {}
  for _, candidate in ipairs(list) do
    on_runs(candidate.meters)
    for i, leg in ipairs(candidate.meters) do
      if leg[IDLE] > 0 then runs[#runs + 1] = {candidate.index, i, leg[PERIOD], leg[ENDS]} end
    end
  end
  return runs
end

-- The candidates with their rows, and the runs of idle meters.
local function candidates()
  local list, idle = {}, false
  for at = 16, #ARGV, EACH do
    local count, dollars = struct.unpack('>dd', ARGV[at + 2])
    local candidate = {index = #list, meters = read_legs(ARGV[at], ARGV[at + 1]), count = count, dollars = dollars,
      amounts = read_numbers(ARGV[at + 3]), text = ARGV[at + 4], scale = ARGV[at + 5], idle = false}
    candidate.idle = want_legs(candidate.meters)
    idle = idle or candidate.idle
    list[#list + 1] = candidate
  end
  fetch()
  return list, idle and runs_of(list) or {}
end

-- What the entry will say of a candidate, as the caller knows it: it has the names.
local function body_read(candidate)
  candidate.body = candidate.body or cjson.decode(candidate.text .. '}')
  return candidate.body
end

local function name_of(miss) return body_read(miss.candidate).legs[miss.number] end

-- Refusals are counted per meter and minute, at most 100,000 rows of 30 days. A caller that waits for room is not
-- refused yet.
local function deny(refused) -- seldom
  local waiting = waits == 1
  for _, miss in ipairs(refused) do
    if miss.leg[ACTION] ~= THROTTLE or miss.amount > miss.leg[LIMIT] then waiting = false end
  end
  if checks == 1 or waiting then return end
  local minute = (now - now % 60000) / 60000
  for _, miss in ipairs(refused) do
    local cap, scope = name_of(miss)[6], name_of(miss)[9]
    local member = table.concat({num(minute * 60000), miss.leg[METER], #cap, cap .. scope}, ':')
    if redis.call('ZSCORE', KEYS[7], member) then
      redis.call('ZINCRBY', KEYS[7], 1, member)
    else
      redis.call('ZADD', KEYS[7], num(minute * 16777216 + 1), member)
      redis.call('ZREMRANGEBYSCORE', KEYS[7], '-inf', num((minute - 43200) * 16777216))
      redis.call('ZREMRANGEBYRANK', KEYS[7], 0, -100001)
    end
  end
end

-- The facts of the entry, with the caps that told or steered, by action, and the output that a clamp left.
local function facts_told(verdict) -- seldom
  local order, told, parts = {}, {}, {ARGV[14]}
  for _, miss in ipairs(verdict.passed) do
    local name = name_of(miss)
    local action = name[8]
    if not told[action] then
      order[#order + 1], told[action] = action, {}
    end
    table.insert(told[action], cjson.encode(name[6]))
  end
  local comma = ARGV[14] == '{' and '' or ','
  for _, action in ipairs(order) do
    parts[#parts + 1] = comma .. '"' .. action .. '":[' .. table.concat(told[action], ',') .. ']'
    comma = ','
  end
  if verdict.output then parts[#parts + 1] = comma .. '"output":' .. num(verdict.output) end
  return table.concat(parts)
end

-- What a clamp left to hold and to expect, written a second time: what stands last in JSON holds.
local function clamped_text(verdict) -- seldom
  local expected, held, likely = body_read(verdict.candidate).expected, {}, {}
  for i, unit in ipairs(verdict.units) do
    local name = cjson.encode(unit) .. ':'
    held[i] = name .. num(verdict.held[i])
    if expected[unit] then likely[#likely + 1] = name .. num(math.min(expected[unit], verdict.held[i])) end
    expected[unit] = nil
  end
  for unit, amount in pairs(expected) do likely[#likely + 1] = cjson.encode(unit) .. ':' .. num(amount) end
  return ',"held":{' .. table.concat(held, ',') .. '},"expected":{' .. table.concat(likely, ',') .. '}'
end

-- The runs of idle meters stand beside the legs, which are the caller's text.
local function runs_text(legs) -- seldom
  local runs = {}
  for i, leg in ipairs(legs) do
    if leg[IDLE] > 0 then runs[#runs + 1] = string.format('"%d":[%d,%d]', i, leg[PERIOD], leg[ENDS]) end
  end
  return ',"runs":{' .. table.concat(runs, ',') .. '}'
end

local function body_text(verdict, shares)
  local candidate = verdict.candidate
  local facts = (#verdict.passed > 0 or verdict.output) and facts_told(verdict) or ARGV[14]
  local clamped = verdict.output and clamped_text(verdict) or ''
  return body_with(candidate.text, facts, candidate.idle and clamped .. runs_text(candidate.meters) or clamped, shares)
end

-- Write the decision down as a call that is settled at once. What it crossed.
local function book_at_once(verdict, row_bucket) -- seldom
  local candidate, shares = verdict.candidate, verdict.shares
  local crossed = crossings(candidate.meters, candidate.count, shares, read_numbers(ARGV[15]),
    function() return candidate.text .. '}' end)
  append('book', ARGV[9], ARGV[13], body_text(verdict, numbers(shares)))
  for i, leg in ipairs(candidate.meters) do
    move(leg, shares[i], 0, 0)
    if leg[IDLE] > 0 then keep(leg, now + leg[IDLE]) end
  end
  remember(row_bucket, ARGV[10], 's', now + retention, seq, seq, verdict.held[candidate.dollars] or 0, ARGV[12])
  save()
  tell(crossed)
  return crossed
end

-- Write the decision down: the meters, the entry, the reservation.
local function hold(verdict)
  local shares = numbers(verdict.shares)
  append('reserve', ARGV[9], ARGV[13], body_text(verdict, shares))
  for i, leg in ipairs(verdict.candidate.meters) do
    move(leg, 0, verdict.shares[i], 0)
    if leg[IDLE] > 0 then keep(leg, math.max(now + leg[IDLE], now + ttl + grace)) end
  end
  save()
  open(shares)
end

local function decide() -- seldom
  placed = -1
  local row_bucket = place()
  want(row_bucket, ARGV[10])
  local list, runs = candidates()
  local answer = checks ~= 1 and known() or stale()
  if answer then return answer end
  local verdict = judge(list)
  local chosen, crossed = verdict.candidate.index, {}
  if #verdict.refused > 0 then
    deny(verdict.refused)
    return {'denied', seq, mark, now, chosen, said(verdict.refused), runs}
  end
  if books == 1 and checks ~= 1 then
    crossed = book_at_once(verdict, row_bucket)
  elseif checks ~= 1 then
    hold(verdict)
  end
  return {'held', seq, mark, now, chosen, verdict.output or -1, verdict.shares, said(verdict.passed), crossed, runs,
    size * 56 - rows}
end

return misfit() or overdue() or plainly() or decide()
