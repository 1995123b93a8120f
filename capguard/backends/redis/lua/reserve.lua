-- reserve: hold one candidate against all its caps, or none. check: the same decision, without its effect.
--
-- ARGV 9 id  10 its row  11 numbers: valid from, valid until, ttl, grace, retention, revisions of the profile and of the
--      policy or -1, whether to book, to wait, to check only  12 fingerprint  13 user
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

-- Whether the command was built for another time, or from a profile or policy that has changed since.
local function stale(head)
  local profile = field_in(KEYS[5], ARGV[13]) or '0:{}'
  local policy = tonumber(meta[6] or 0)
  local old_profile = ARGV[13] ~= '' and tonumber(string.match(profile, '^(%d+):')) ~= head.profile
  local old_policy = head.policy >= 0 and policy ~= head.policy
  if not old_profile and not old_policy and head.valid_from <= now and now < head.valid_until then return nil end
  local document = old_policy and field_in(KEYS[6], num(policy)) or ''
  return {'stale', seq, mark, now, old_profile and profile or '', old_policy and policy or -1, document}
end

-- The candidates with their rows, and the runs of idle meters: {candidate, leg, period, ends}.
local function candidates()
  local list, runs, idle = {}, {}, false
  for at = 16, #ARGV, EACH do
    local count, dollars = struct.unpack('>dd', ARGV[at + 2])
    local candidate = {index = #list, meters = read_legs(ARGV[at], ARGV[at + 1]), count = count, dollars = dollars,
      amounts = read_numbers(ARGV[at + 3]), text = ARGV[at + 4], scale = ARGV[at + 5]}
    idle = want_legs(candidate.meters) or idle
    list[#list + 1] = candidate
  end
  fetch()
  if not idle then return list, runs end
  for _, candidate in ipairs(list) do
    on_runs(candidate.meters)
    for i, leg in ipairs(candidate.meters) do
      if leg[IDLE] > 0 then runs[#runs + 1] = {candidate.index, i, leg[PERIOD], leg[ENDS]} end
    end
  end
  return list, runs
end

-- What the entry will say of a candidate, as the caller knows it: it has the names.
local function body_read(candidate)
  candidate.body = candidate.body or cjson.decode(candidate.text .. '}')
  return candidate.body
end

local function name_of(miss) return body_read(miss.candidate).legs[miss.number] end

-- Refusals are counted per meter and minute, at most 100,000 rows of 30 days. A caller that waits for room is not
-- refused yet.
local function deny(head, refused)
  local waits = head.waits
  for _, miss in ipairs(refused) do
    if miss.leg[ACTION] ~= THROTTLE or miss.amount > miss.leg[LIMIT] then waits = false end
  end
  if head.check or waits then return end
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
local function facts_of(verdict)
  if #verdict.passed == 0 and not verdict.output then return ARGV[14] .. '}' end
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
  return table.concat(parts) .. '}'
end

-- What a clamp left to hold and to expect, written a second time: what stands last in JSON holds.
local function clamped_text(verdict)
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
local function runs_text(legs)
  local runs = {}
  for i, leg in ipairs(legs) do
    if leg[IDLE] > 0 then runs[#runs + 1] = string.format('"%d":[%d,%d]', i, leg[PERIOD], leg[ENDS]) end
  end
  return #runs > 0 and ',"runs":{' .. table.concat(runs, ',') .. '}' or ''
end

local function body_text(verdict)
  local candidate = verdict.candidate
  return candidate.text .. ',"facts":' .. facts_of(verdict) .. ',"created_ms":' .. num(now) ..
    (verdict.output and clamped_text(verdict) or '') .. runs_text(candidate.meters) ..
    ',"shares":[' .. numbers(verdict.shares) .. ']}'
end

-- Write the decision down: the meters, the entry, the reservation. What it crossed.
local function hold(head, verdict, row_bucket)
  local candidate, shares, crossed = verdict.candidate, verdict.shares, {}
  local expires = now + head.ttl
  if head.books then
    crossed = crossings(candidate.meters, candidate.count, shares, read_numbers(ARGV[15]), function() return candidate.text .. '}' end)
  end
  append(head.books and 'book' or 'reserve', ARGV[9], ARGV[13], body_text(verdict))
  for i, leg in ipairs(candidate.meters) do
    move(leg, head.books and shares[i] or 0, head.books and 0 or shares[i], 0)
    if leg[IDLE] > 0 then keep(leg, math.max(now + leg[IDLE], head.books and 0 or expires + head.grace)) end
  end
  if head.books then
    remember(row_bucket, ARGV[10], 's', now + head.retention, seq, seq, verdict.held[candidate.dollars] or 0, ARGV[12])
  end
  save()
  if head.books then
    tell(crossed)
  else
    write_open({id = ARGV[9], state = 'h', made = num(seq), entry = num(seq), expires = expires, fingerprint = ARGV[12],
      shares = shares}, expires + head.grace)
  end
  return crossed
end

local bad = misfit() or overdue()
if bad then return bad end
local from, till, ttl, grace, retention, profile, policy, books, waits, check = struct.unpack('>dddddddddd', ARGV[11])
local head = {valid_from = from, valid_until = till, ttl = ttl, grace = grace, retention = retention, profile = profile,
  policy = policy, books = books == 1, waits = waits == 1, check = check == 1}
local row_bucket = place()
want(row_bucket, ARGV[10])
local list, runs = candidates()
local answer = not head.check and known() or stale(head)
if answer then return answer end
local verdict = judge(list)
local candidate = verdict.candidate
if #verdict.refused > 0 then
  deny(head, verdict.refused)
  return {'denied', seq, mark, now, candidate.index, said(verdict.refused), runs}
end
local crossed = head.check and {} or hold(head, verdict, row_bucket)
return {'held', seq, mark, now, candidate.index, verdict.output or -1, verdict.shares, said(verdict.passed), crossed, runs,
  size * 56 - rows}
