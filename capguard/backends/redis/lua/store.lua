-- The store: what every script begins with. Its keys, the clock, the rows of meters, the journal.
--
-- KEYS 1 meta      hash    epoch, seq (entries made), now (time of the newest), size (buckets), rows (in them), policy,
--                          follows ('any': whatever was used before, it was accepted that this one goes on)
--      2 open      hash    id -> a reservation that may still change: state:made:entry:expires:fingerprint:shares
--      3 due       zset    those ids by the time at which they expire or are forgotten
--      4 log       stream  the journal: entry n has the id n-0 and the fields t, k, i, u, b
--      5 users     hash    user -> revision:profile
--      6 policies  hash    revision -> policy
--      7 refused   zset    refusals by minute
--      8 alerts    zset    thresholds that were crossed, by time
--      9..         hashes  the buckets that this step touches: e -> epoch, and rows
-- ARGV 1 the caller's clock in ms, '' for the server's  2 epoch  3 newest entry the caller has seen  4 size
--      5 '1' to leave what is overdue alone
--
-- A row's field begins with 8 hex digits that choose its bucket. By length it is
--      19  an ended id           state:forgotten:made:entry:usd:fingerprint, the first three numbers in hex
--      24  a rolling meter       gone|period,settled,held,overrun;...
--      25  an idle meter's run   period:gone
--      30  a meter's period      settled:held:overrun:gone, zeros left out
--
-- Numbers stay below 2^53 and leave Lua through num(): '..' rounds them from 1e14 on, and writes 0 * -1 as -0.
-- Nothing is undone after an error: everything is read and judged before anything is written.

local FOREVER, KEPT = 9007199254740991, 172800000
local METER, PERIOD, LIMIT, SINCE, ENDS, CAP, UNIT, ACTION, SCOPE = 1, 2, 3, 4, 5, 6, 7, 8, 9
local STEP, OTHERWISE, OVERAGE_ONLY, IGNORE_GRANTS, MIN_OUTPUT, IDLE = 10, 11, 12, 13, 14, 16

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'now', 'size', 'rows', 'policy')
local seq, size, rows = tonumber(meta[2]), tonumber(meta[4]), tonumber(meta[5])
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME') -- once: it moves within a script
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
now = math.max(now, tonumber(meta[3] or 0))

local prefix, given = string.sub(KEYS[1], 1, -5), {}
for i = 9, #KEYS do given[KEYS[i]] = true end

-- Why this step cannot be taken: the caller knows another store than this one, or this one has lost something.
local function misfit()
  if not meta[1] then return {'void'} end
  if not seq or not rows or not size or size < 1 then return {'lost', KEYS[1]} end
  if meta[1] ~= ARGV[2] then return {'epoch', meta[1], seq, size, redis.call('HGET', KEYS[1], 'follows') or ''} end
  if seq < tonumber(ARGV[3]) then return {'rewound', seq} end
  if size ~= tonumber(ARGV[4]) then return {'size', size} end
  for key in pairs(given) do
    if redis.call('HGET', key, 'e') ~= meta[1] then return {'lost', key} end
  end
end

local function num(n)
  if n == 0 then return '0' end
  return string.format('%.0f', n)
end

-- Linear hashing: a store of n buckets grows one by one, and each new one takes half of one that is there.
local function bucket_of(field)
  local half = 1
  while half * 2 <= size do half = half * 2 end
  local n = tonumber(string.sub(field, 1, 8), 16) % (half * 2)
  if n >= size then n = n - half end
  return prefix .. 'b:' .. num(n)
end

local function rolling(leg) return leg[SINCE] ~= leg[PERIOD] end

local function gone_of(leg)
  return rolling(leg) and leg[ENDS] or math.min(FOREVER, leg[ENDS] + KEPT)
end

-- Whole minutes are written as such: most periods end on one.
local function time_text(ms)
  if ms >= FOREVER then return '' end
  return ms % 60000 == 0 and num(ms / 60000) or num(ms)
end

local function time_of(text)
  local n = tonumber(text)
  if not n then return FOREVER end
  return n < 1e10 and n * 60000 or n
end

local cache, changed = {}, {}

local function read_period(text)
  local settled, held, overrun, gone = string.match(text, '^(%d*):(%d*):(%d*):(%d*)$')
  if not gone then error('a meter that reads ' .. text) end -- never taken for 0
  return {tonumber(settled) or 0, tonumber(held) or 0, tonumber(overrun) or 0, gone = time_of(gone)}
end

local function read_window(text)
  local gone, buckets = string.match(text, '^(%d+)|(.*)$')
  local row = {gone = tonumber(gone), window = {}}
  for period, settled, held, overrun in string.gmatch(buckets, '(%d+),(%d+),(%d+),(%d+);') do
    row.window[tonumber(period)] = {tonumber(settled), tonumber(held), tonumber(overrun)}
  end
  return row
end

local function read_run(text)
  local period, gone = string.match(text, '^(%d+):(%d*)$')
  if not gone then error('a run that reads ' .. text) end
  return {period = tonumber(period), gone = time_of(gone)}
end

local READ = {[24] = read_window, [25] = read_run, [30] = read_period}

local function row_at(field)
  local row = cache[field]
  if not row then
    local text = redis.call('HGET', bucket_of(field), field)
    row = text and READ[#field](text) or {0, 0, 0, gone = 0, window = {}, new = true}
    cache[field] = row
  end
  return row
end

local function field_of(leg)
  return rolling(leg) and leg[METER] or leg[METER] .. struct.pack('>I6', leg[PERIOD])
end

-- What a meter shows: settled, held, overrun; of a rolling one in all its buckets from `since` to `till`.
local function state_of(leg, since, till)
  local row = row_at(field_of(leg))
  if not rolling(leg) then return row[1], row[2], row[3] end
  local settled, held, overrun = 0, 0, 0
  for period, sums in pairs(row.window) do
    if period >= since and period <= till then
      settled, held, overrun = settled + sums[1], held + sums[2], overrun + sums[3]
    end
  end
  return settled, held, overrun
end

-- Change a meter, in memory; save() writes it. Returns what is settled on it then.
local function move(leg, settled, held, overrun)
  local field = field_of(leg)
  local row = row_at(field)
  changed[field] = row
  row.gone = math.max(row.gone, gone_of(leg))
  local sums = row
  if rolling(leg) then
    for period in pairs(row.window) do -- what has left the window is dropped
      if period + leg[ENDS] - leg[PERIOD] <= now then row.window[period] = nil end
    end
    sums = row.window[leg[PERIOD]] or {0, 0, 0}
    row.window[leg[PERIOD]] = sums
  end
  sums[1], sums[2], sums[3] = sums[1] + settled, sums[2] + held, sums[3] + overrun
  return sums[1]
end

-- Keep the run of an idle meter on until then at least.
local function keep(leg, until_ms)
  local field, pointer = field_of(leg), leg[METER] .. '*'
  local row, run = row_at(field), row_at(pointer)
  row.gone = math.max(row.gone, until_ms + KEPT)
  if leg[PERIOD] >= (run.period or 0) then run.period, run.gone = leg[PERIOD], row.gone end
  changed[field], changed[pointer] = row, run
end

-- The leg of an idle meter in the run that is on, or begins now.
local function on_run(leg)
  if (leg[IDLE] or 0) == 0 then return false end
  local run = row_at(leg[METER] .. '*')
  if run.gone - KEPT > now then
    leg[PERIOD], leg[ENDS] = run.period, run.gone - KEPT
  else
    leg[PERIOD], leg[ENDS] = now, now + leg[IDLE]
  end
  leg[SINCE] = leg[PERIOD]
  return true
end

local function blank(n) return n == 0 and '' or num(n) end

local function text_of(field, row)
  if #field == 25 then return num(row.period) .. ':' .. time_text(row.gone) end
  if #field == 30 then
    return table.concat({blank(row[1]), blank(row[2]), blank(row[3]), time_text(row.gone)}, ':')
  end
  local buckets = {num(row.gone), '|'}
  for period, sums in pairs(row.window) do
    buckets[#buckets + 1] = table.concat({num(period), num(sums[1]), num(sums[2]), num(sums[3])}, ',') .. ';'
  end
  return table.concat(buckets)
end

local function put(field, text)
  rows = rows + redis.call('HSET', bucket_of(field), field, text)
end

-- The entry comes first of all that is written: where the journal does not take it, nothing else has changed yet.
local function append(kind, id, user, body)
  redis.call('XADD', KEYS[4], num(seq + 1) .. '-0', 't', num(now), 'k', kind, 'i', id, 'u', user, 'b', body)
  seq = seq + 1
end

local function save()
  for field, row in pairs(changed) do put(field, text_of(field, row)) end
  changed = {}
  redis.call('HSET', KEYS[1], 'seq', num(seq), 'now', num(now), 'rows', num(rows))
end

-- The body of an entry: as text, and read. An idle meter's run stands beside the legs, which are the caller's text.
local function body_of(made)
  local found = redis.call('XRANGE', KEYS[4], made .. '-0', made .. '-0')[1]
  if not found then return nil end
  local text = found[2][10]
  local body = cjson.decode(text)
  for number, run in pairs(body.runs or {}) do
    local leg = body.legs[tonumber(number)]
    leg[PERIOD], leg[SINCE], leg[ENDS] = run[1], run[1], run[2]
  end
  return body, text
end

local function all_given(legs)
  for _, leg in ipairs(legs) do
    if not given[bucket_of(leg[METER])] then return false end
  end
  return true
end

local function joined(first, second)
  local all = {}
  for _, each in ipairs(first) do all[#all + 1] = each end
  for _, each in ipairs(second) do all[#all + 1] = each end
  return all
end

local function numbers(list)
  local texts = {}
  for i, n in ipairs(list) do texts[i] = num(n) end
  return table.concat(texts, ',')
end

-- Reservations whose time has come, for the caller to end first: their meters are in buckets that only it can name.
local function overdue()
  if ARGV[5] == '1' then return nil end
  local ids = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', num(now), 'LIMIT', 0, 100)
  if #ids == 0 then return nil end
  local reply = {'due'}
  for _, id in ipairs(ids) do
    local text = redis.call('HGET', KEYS[2], id) or ''
    local made, body = string.match(text, '^%a:(%d+):'), nil
    if made then body = select(2, body_of(made)) end
    for _, each in ipairs({id, text, body or ''}) do reply[#reply + 1] = each end
  end
  return reply
end

-- Drop what is over from a bucket that is at hand: ids that are forgotten, meters that are gone.
local function tidy(key)
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local field, text = fields[i], fields[i + 1]
    local over
    if #field == 19 then
      over = tonumber(string.match(text, '^%a:(%x+):'), 16)
    elseif #field > 19 then
      over = READ[#field](text).gone
    end
    if over and over <= now then rows = rows - redis.call('HDEL', key, field) end
  end
end
