-- The store: what every script begins with. Its keys, the clock, the rows of meters, the journal.
--
-- KEYS 1 meta      hash    epoch, seq (entries made), mark (of the newest), now (its time), size (buckets), rows (in them),
--                          policy, follows ('any': whatever was used before, it was accepted that this one goes on)
--      2 open      hash    id -> a reservation that may still change: state:made:entry:expires:fingerprint:shares
--      3 due       zset    those ids by the time at which they expire or are forgotten
--      4 log       stream  the journal: entry n has the id n-0 and the fields t, k, i, u, b, n (its mark)
--      5 users     hash    user -> revision:profile
--      6 policies  hash    revision -> policy
--      7 refused   zset    refusals by minute
--      8 alerts    zset    thresholds that were crossed, by time
--      9..         hashes  the buckets that this step touches: e -> epoch, and rows
--      2, 3, 5 and 6 have the member '' too, for good: where it is missing the key was lost
-- ARGV 1 the caller's clock in ms, '' for the server's  2 epoch  3 newest entry the caller has seen  4 its mark  5 size
--      6 the mark of entries that this step makes  7 '1' to leave what is overdue alone
--      8 which of KEYS is the bucket of each row that is named after, two bytes each
--
-- A row's field begins with 8 hex digits that choose its bucket. By length it is
--      19  an ended id           state:forgotten:made:entry:usd:fingerprint, the first three numbers in hex
--      24  a rolling meter       gone|period,settled,held,overrun;...
--      25  an idle meter's run   period:gone
--      30  a meter's period      settled:held:overrun:gone, where nothing is left out for 0
--
-- Numbers stay below 2^53 and leave Lua through %d: '..' rounds them from 1e14 on, and writes 0 * -1 as -0.
-- Nothing is undone after an error: everything is read and judged before anything is written.

local FOREVER, KEPT, MANY = 9007199254740991, 172800000, 1000
local LEG, LEG_BYTES = '>c24c30ddddddddddd', 142
local METER, PERIOD, LIMIT, SINCE, ENDS, ACTION, STEP, OTHERWISE = 1, 2, 3, 4, 5, 6, 7, 8
local OVERAGE_ONLY, IGNORE_GRANTS, MIN_OUTPUT, IDLE, BUCKET, UNIT, FIELD = 9, 10, 11, 12, 13, 14, 15
local BLOCK, CLAMP, THROTTLE, DOWNGRADE, WARN, DRY_RUN, INCLUDED, GRANT = 1, 2, 3, 4, 5, 6, 7, 8

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'now', 'size', 'rows', 'policy', 'mark')
local seq, size, rows, mark = tonumber(meta[2]), tonumber(meta[4]), tonumber(meta[5]), meta[7]
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME') -- once: it moves within a script
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
now = math.max(now, tonumber(meta[3] or 0))

local function num(n) return string.format('%d', n) end

local now_text, seq_text = num(now), meta[2] -- a number costs a microsecond each time that it becomes a text

-- Raised before anything is written.
local function lost(key) error('LOST ' .. key) end

-- Why this step cannot be taken: the caller knows another store than this one, or this one has lost something.
local function misfit()
  local seen = tonumber(ARGV[3])
  if not meta[1] then return {'void'} end
  if not seq or not rows or not size or size < 1 or not mark then return {'lost', KEYS[1]} end
  if meta[1] ~= ARGV[2] then return {'epoch', meta[1], seq, mark, size, redis.call('HGET', KEYS[1], 'follows') or ''} end
  if seq < seen then return {'rewound', seq} end
  local bears = mark -- of the entry that the caller has seen last: others may have made one in its place
  if seen ~= seq then
    local found = redis.call('XRANGE', KEYS[4], num(seen) .. '-0', num(seen) .. '-0')[1]
    bears = found and found[2][12] or ARGV[4] -- it was archived
  end
  if bears ~= ARGV[4] then return {'rewound', seq} end
  if size ~= tonumber(ARGV[5]) then return {'size', size} end
end

local placed = -1

-- Where the next row that the caller names has its bucket among KEYS.
local function place()
  placed = placed + 2
  return (struct.unpack('>H', ARGV[8], placed))
end

local function rolling(leg) return leg[SINCE] ~= leg[PERIOD] end

-- Legs as they come packed, in the order of their places. `units` has the number of each one's unit, a byte each.
local function read_legs(packed, units)
  local legs = {}
  for i = 1, #packed / LEG_BYTES do
    local meter, field, period, limit, since, ends, action, step, otherwise, overage_only, ignore_grants, min_output, idle =
      struct.unpack(LEG, packed, (i - 1) * LEG_BYTES + 1)
    legs[i] = {meter, period, limit, since, ends, action, step, otherwise, overage_only, ignore_grants, min_output,
      idle, place(), string.byte(units, i), since == period and field or meter}
  end
  return legs
end

-- Numbers as they come packed, eight bytes each.
local function read_numbers(packed)
  local list = {}
  for i = 1, #packed / 8 do list[i] = struct.unpack('>d', packed, i * 8 - 7) end
  return list
end

-- When a period is gone that ends then.
local function gone_at(ends)
  return math.min(FOREVER, ends + KEPT)
end

local function gone_of(leg)
  return rolling(leg) and leg[ENDS] or gone_at(leg[ENDS])
end

-- Whole minutes are written as such: most periods end on one.
local function time_text(ms)
  if ms >= FOREVER then return '' end
  return num(ms % 60000 == 0 and ms / 60000 or ms)
end

local function time_of(text)
  if text == '' then return FOREVER end
  local n = text + 0 -- half the price of tonumber()
  return n < 1e10 and n * 60000 or n
end

-- A row that is none of a meter's period.
local function read_other_row(field, text, bucket) -- seldom
  if #field == 19 then return {text = text, gone = tonumber(string.match(text, '^%a:(%x+):'), 16), bucket = bucket} end
  if #field == 25 then
    local period, gone = string.match(text, '^(%d+):(%d*)$')
    if not gone then error('a run that reads ' .. text) end
    return {period = tonumber(period), gone = time_of(gone), bucket = bucket}
  end
  local gone, buckets = string.match(text, '^(%d+)|(.*)$')
  local row = {gone = tonumber(gone), window = {}, bucket = bucket}
  for period, settled, held, overrun in string.gmatch(buckets, '(%d+),(%d+),(%d+),(%d+);') do
    row.window[tonumber(period)] = {tonumber(settled), tonumber(held), tonumber(overrun)}
  end
  return row
end

-- The meter of a period as it is stored: settled, held, overrun, gone. What shows is never taken for 0.
local function read_period(text)
  local settled, held, overrun, gone = string.match(text, '^(%d*):(%d*):(%d*):(%d*)$')
  if not gone then error('a meter that reads ' .. text) end
  return (settled == '' and 0 or settled) + 0, (held == '' and 0 or held) + 0, (overrun == '' and 0 or overrun) + 0,
    time_of(gone)
end

local function period_text(settled, held, overrun, gone)
  if held == 0 and overrun == 0 then return string.format('%d:::%s', settled, time_text(gone)) end -- as most rest
  return string.format('%d:%d:%d:%s', settled, held, overrun, time_text(gone))
end

local function read_row(field, text, bucket)
  if not text then return {0, 0, 0, gone = 0, bucket = bucket, new = true, window = #field == 24 and {} or nil} end
  if #field ~= 30 then return read_other_row(field, text, bucket) end
  local settled, held, overrun, gone = read_period(text)
  return {settled, held, overrun, gone = gone, bucket = bucket}
end

local cache, changed, wanted, written = {}, {}, {}, {}

-- Read the rows that were asked for, in one call per bucket.
local function fetch()
  for bucket, fields in pairs(wanted) do
    local texts = redis.call('HMGET', KEYS[bucket], 'e', unpack(fields))
    if texts[1] ~= meta[1] then lost(KEYS[bucket]) end
    for i, field in ipairs(fields) do cache[field] = read_row(field, texts[i + 1], bucket) end
  end
  wanted = {}
end

-- Ask for a row: it is in the cache after the next fetch().
local function want(bucket, field)
  if cache[field] then return end
  local fields = wanted[bucket]
  if not fields then
    wanted[bucket] = {field}
  else
    fields[#fields + 1] = field
    if #fields == MANY then fetch() end -- unpack() takes no more than some thousands
  end
end

-- Ask for the rows of legs. Those of idle meters are found by the run that is on.
local function want_legs(legs)
  local idle = false
  for _, leg in ipairs(legs) do
    if leg[IDLE] > 0 then
      want(leg[BUCKET], leg[METER] .. '*')
      idle = true
    end
    want(leg[BUCKET], leg[FIELD])
  end
  return idle
end

-- An ended id, where it is not forgotten.
local function ended(field)
  local row = cache[field]
  return not row.new and row.gone > now and row.text or nil
end

local function sum_of(window, since, till) -- seldom
  local settled, held, overrun = 0, 0, 0
  for period, sums in pairs(window) do
    if period >= since and period <= till then
      settled, held, overrun = settled + sums[1], held + sums[2], overrun + sums[3]
    end
  end
  return settled, held, overrun
end

-- What a meter shows: settled, held, overrun; of a rolling one in all its buckets from `since` to `till`.
local function state_of(leg, since, till)
  local row = cache[leg[FIELD]]
  if row.window then return sum_of(row.window, since, till) end
  return row[1], row[2], row[3]
end

-- The bucket of a rolling meter that a leg is counted in. What has left the window is dropped.
local function bucket_on(leg, window) -- seldom
  for period in pairs(window) do
    if period + leg[ENDS] - leg[PERIOD] <= now then window[period] = nil end
  end
  window[leg[PERIOD]] = window[leg[PERIOD]] or {0, 0, 0}
  return window[leg[PERIOD]]
end

-- Change a meter, in memory; save() writes it.
local function move(leg, settled, held, overrun)
  local row = cache[leg[FIELD]]
  changed[leg[FIELD]] = row
  row.gone = math.max(row.gone, gone_of(leg))
  local sums = row.window and bucket_on(leg, row.window) or row
  sums[1], sums[2], sums[3] = sums[1] + settled, sums[2] + held, sums[3] + overrun
end

-- Keep the run of an idle meter on until then at least.
local function keep(leg, until_ms) -- seldom
  local pointer = leg[METER] .. '*'
  local row, run = cache[leg[FIELD]], cache[pointer]
  row.gone = math.max(row.gone, until_ms + KEPT)
  if leg[PERIOD] >= (run.period or 0) then run.period, run.gone = leg[PERIOD], row.gone end
  changed[leg[FIELD]], changed[pointer] = row, run
end

-- The legs of idle meters in the run that is on, or begins now.
local function on_runs(legs) -- seldom
  for _, leg in ipairs(legs) do
    if leg[IDLE] > 0 then
      local run = cache[leg[METER] .. '*']
      if run.gone - KEPT > now then
        leg[PERIOD], leg[ENDS] = run.period, run.gone - KEPT
      else
        leg[PERIOD], leg[ENDS] = now, now + leg[IDLE]
      end
      leg[SINCE] = leg[PERIOD]
      leg[FIELD] = leg[METER] .. struct.pack('>I6', leg[PERIOD])
      want(leg[BUCKET], leg[FIELD])
    end
  end
  fetch()
end

local function other_text_of(field, row) -- seldom
  if #field == 25 then return num(row.period) .. ':' .. time_text(row.gone) end
  local buckets = {num(row.gone), '|'}
  for period, sums in pairs(row.window) do
    buckets[#buckets + 1] = string.format('%d,%d,%d,%d;', period, sums[1], sums[2], sums[3])
  end
  return table.concat(buckets)
end

local function text_of(field, row)
  if #field ~= 30 then return other_text_of(field, row) end
  return period_text(row[1], row[2], row[3], row.gone)
end

local function flush(bucket)
  rows = rows + redis.call('HSET', KEYS[bucket], unpack(written[bucket]))
  written[bucket] = nil
end

local function put(bucket, field, text)
  local list = written[bucket]
  if not list then
    written[bucket] = {field, text}
  else
    list[#list + 1], list[#list + 2] = field, text
    if #list >= MANY then flush(bucket) end
  end
end

-- The entry comes first of all that is written: where the journal does not take it, nothing else has changed yet.
local function append(kind, id, user, body)
  local first = seq == 0
  seq, mark, seq_text = seq + 1, ARGV[6], num(seq + 1)
  if first then
    redis.call('XADD', KEYS[4], seq_text, 't', now_text, 'k', kind, 'i', id, 'u', user, 'b', body, 'n', mark)
  elseif not redis.call('XADD', KEYS[4], 'NOMKSTREAM', seq_text, 't', now_text, 'k', kind, 'i', id, 'u', user, 'b', body,
      'n', mark) then
    lost(KEYS[4])
  end
end

local function save_meta()
  redis.call('HSET', KEYS[1], 'seq', seq_text, 'now', now_text, 'rows', num(rows), 'mark', mark)
end

local function save()
  for field, row in pairs(changed) do put(row.bucket, field, text_of(field, row)) end
  for bucket in pairs(written) do flush(bucket) end
  changed = {}
  save_meta()
end

-- The body of an entry, as text.
local function body_of(made)
  local found = redis.call('XRANGE', KEYS[4], made .. '-0', made .. '-0')[1]
  return found and found[2][10]
end

local function joined(first, second)
  local all = {}
  for _, each in ipairs(first) do all[#all + 1] = each end
  for _, each in ipairs(second) do all[#all + 1] = each end
  return all
end

local function numbers(list)
  local texts = {}
  for i, n in ipairs(list) do texts[i] = string.format('%d', n) end
  return table.concat(texts, ',')
end

-- A field of a hash that has the member '' for good.
local function field_in(key, field)
  local found = redis.call('HMGET', key, '', field)
  if not found[1] then lost(key) end
  return field ~= '' and found[2] or nil
end

-- Reservations whose time has come, for the caller to end first: their meters are in buckets that only it can name.
local function all_overdue() -- seldom
  local ids = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', num(now), 'LIMIT', 0, 100)
  local reply = {'due', seq, mark}
  for _, id in ipairs(ids) do
    local text = field_in(KEYS[2], id) or ''
    local made = string.match(text, '^h:(%d+):')
    for _, each in ipairs({id, text, made and body_of(made) or ''}) do reply[#reply + 1] = each end
  end
  return reply
end

local function overdue()
  local first = redis.call('ZRANGE', KEYS[3], '0', '0', 'WITHSCORES')
  if not first[1] then lost(KEYS[3]) end
  if ARGV[7] == '1' or tonumber(first[2]) > now then return nil end
  return all_overdue()
end
