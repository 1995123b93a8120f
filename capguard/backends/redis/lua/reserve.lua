-- reserve: hold one candidate against all its caps, or none. check: the same decision, without its effect.
--
-- ARGV 6 id  7 its row  8 head, JSON  9 facts, JSON without its last brace
--      10.. per candidate: the entry's body as far as the caller knows it, JSON without its last brace; its scale or ''
-- Returns {'held', now, seq, candidate, output or -1, shares, passed, crossed, runs, rows to spare}
--      or {'denied', now, candidate, refused} or {'known', open text or '', row or ''} or {'stale', ...}
--      a miss is {candidate, leg, amount, settled, held, overrun, frees}

local function said(misses)
  local list = {}
  for i, miss in ipairs(misses) do
    local meter = miss.meter
    list[i] = {miss.of, miss.number, miss.amount, meter[1], meter[2], meter[3], miss.frees}
  end
  return list
end

local function known()
  local text = redis.call('HGET', KEYS[2], ARGV[6])
  if text then return {'known', text, ''} end
  local row = redis.call('HGET', bucket_of(ARGV[7]), ARGV[7])
  if row and tonumber(string.match(row, '^%a:(%x+):'), 16) > now then return {'known', '', row} end
end

-- Whether the command was built for another time, or from a profile or policy that has changed since.
local function stale(head)
  local profile = head.user ~= '' and redis.call('HGET', KEYS[5], head.user) or '0:{}'
  local policy = tonumber(meta[6] or 0)
  local old_profile = head.user ~= '' and tonumber(string.match(profile, '^(%d+):')) ~= head.profile
  local old_policy = head.policy >= 0 and policy ~= head.policy
  if not old_profile and not old_policy and head.valid_from <= now and now < head.valid_until then return nil end
  local document = old_policy and redis.call('HGET', KEYS[6], num(policy)) or ''
  return {'stale', now, old_profile and profile or '', old_policy and policy or -1, document}
end

local function candidates(all_runs)
  local list = {}
  for i = 10, #ARGV, 2 do
    local candidate = cjson.decode(ARGV[i] .. '}')
    candidate.index, candidate.text = #list, ARGV[i]
    candidate.scale = ARGV[i + 1] ~= '' and cjson.decode(ARGV[i + 1]) or nil
    candidate.runs = {}
    for number, leg in ipairs(candidate.legs) do
      if on_run(leg) then
        candidate.runs[#candidate.runs + 1] = {number, leg[PERIOD], leg[ENDS]}
        all_runs[#all_runs + 1] = {candidate.index, number, leg[PERIOD], leg[ENDS]}
      end
    end
    list[#list + 1] = candidate
  end
  return list
end

-- A refusal is counted per meter and minute, at most 100,000 rows of 30 days.
local function deny(leg)
  local minute, cap = (now - now % 60000) / 60000, leg[CAP]
  local member = table.concat({num(minute * 60000), leg[METER], #cap, cap .. leg[SCOPE]}, ':')
  if redis.call('ZSCORE', KEYS[7], member) then
    redis.call('ZINCRBY', KEYS[7], 1, member)
  else
    redis.call('ZADD', KEYS[7], num(minute * 16777216 + 1), member)
    redis.call('ZREMRANGEBYSCORE', KEYS[7], '-inf', num((minute - 43200) * 16777216))
    redis.call('ZREMRANGEBYRANK', KEYS[7], 0, -100001)
  end
end

local function waits(refused)
  for _, miss in ipairs(refused) do
    if miss.leg[ACTION] ~= 'throttle' or miss.amount > miss.leg[LIMIT] then return false end
  end
  return true
end

-- The facts of the entry, with the caps that told or steered, by action, and the output that a clamp left.
local function facts_of(verdict)
  local order, told, parts = {}, {}, {ARGV[9]}
  for _, miss in ipairs(verdict.passed) do
    local action = miss.leg[ACTION]
    if not told[action] then
      order[#order + 1], told[action] = action, {}
    end
    table.insert(told[action], cjson.encode(miss.leg[CAP]))
  end
  local comma = ARGV[9] == '{' and '' or ','
  for _, action in ipairs(order) do
    parts[#parts + 1] = comma .. '"' .. action .. '":[' .. table.concat(told[action], ',') .. ']'
    comma = ','
  end
  if verdict.output then parts[#parts + 1] = comma .. '"output":' .. num(verdict.output) end
  return table.concat(parts) .. '}'
end

local function names_of(amounts)
  local names = {}
  for name in pairs(amounts) do names[#names + 1] = name end
  return names
end

local function body_text(verdict)
  local candidate = verdict.candidate
  local parts = {candidate.text, ',"facts":', facts_of(verdict), ',"created_ms":', num(now)}
  if verdict.output then -- written a second time: what stands last in JSON holds
    local expected = {}
    for unit, amount in pairs(candidate.expected) do expected[unit] = math.min(amount, verdict.held[unit] or amount) end
    parts[#parts + 1] = ',"held":' .. object(names_of(verdict.held), verdict.held)
    parts[#parts + 1] = ',"expected":' .. object(names_of(expected), expected)
  end
  if #candidate.runs > 0 then
    local runs = {}
    for i, run in ipairs(candidate.runs) do runs[i] = '"' .. num(run[1]) .. '":[' .. numbers({run[2], run[3]}) .. ']' end
    parts[#parts + 1] = ',"runs":{' .. table.concat(runs, ',') .. '}'
  end
  parts[#parts + 1] = ',"shares":[' .. numbers(verdict.shares) .. ']}'
  return table.concat(parts)
end

-- Write the decision down: the meters, the entry, the reservation. What it crossed.
local function hold(head, verdict)
  local candidate, text, grown, crossed = verdict.candidate, body_text(verdict), {}, {}
  local expires = now + head.ttl
  for i, leg in ipairs(joined(candidate.legs, candidate.sources)) do
    local share = verdict.shares[i]
    local settled = move(leg, head.book and share or 0, head.book and 0 or share, 0)
    grown[i] = {leg = leg, number = i, growth = head.book and share or 0, settled = settled}
  end
  for _, run in ipairs(candidate.runs) do
    local leg = candidate.legs[run[1]]
    keep(leg, math.max(now + leg[IDLE], head.book and 0 or expires + head.grace))
  end
  append(head.book and 'book' or 'reserve', ARGV[6], head.user, text)
  if head.book then
    remember(ARGV[7], 's', now + head.retention, seq, seq, verdict.held.usd or 0, head.fingerprint)
  end
  save()
  if head.book then
    crossings(candidate.thresholds, grown, crossed)
  else
    write_open({id = ARGV[6], state = 'h', made = num(seq), entry = num(seq), expires = expires,
      fingerprint = head.fingerprint, shares = verdict.shares}, expires + head.grace)
  end
  return crossed
end

local bad = misfit() or overdue()
if bad then return bad end
local head = cjson.decode(ARGV[8])
local answer = not head.check and known() or stale(head)
if answer then return answer end
local runs = {} -- of idle meters: {candidate, leg, period, ends}
local verdict = judge(candidates(runs))
local candidate = verdict.candidate
if #verdict.refused > 0 then
  if not head.check and not (head.waits and waits(verdict.refused)) then
    for _, miss in ipairs(verdict.refused) do deny(miss.leg) end
  end
  return {'denied', now, candidate.index, said(verdict.refused), runs}
end
local crossed = head.check and {} or hold(head, verdict)
return {'held', now, head.check and 0 or seq, candidate.index, verdict.output or -1, verdict.shares,
  said(verdict.passed), crossed, runs, size * 56 - rows}
