-- extend: lengthen or raise a hold to the totals given, never lowering either.
--
-- ARGV 6 id  7 its row  8 ttl in ms or -1  9 amounts, JSON, or ''
-- Returns {'extended', text, body} or {'denied', now, 0, refused, {}, text, body} or {'ended', text} or {'unknown'}
--      or {'known', '', row} or {'need', body}

local function raised(record)
  if ARGV[9] == '' then return record.shares end
  local amounts, total, wanted = cjson.decode(ARGV[9]), {}, {}
  for unit, held in pairs(record.body.held) do
    total[unit] = held > 0 and math.max(held, amounts[unit] or 0) or 0
  end
  for i, share in ipairs(shares_of(record, total)) do wanted[i] = math.max(share, record.shares[i]) end
  return wanted
end

-- The enforcing legs on which the raised hold does not fit, beside what others have.
local function short(record, wanted)
  local refused = {}
  for i, leg in ipairs(record.body.legs) do
    local old, new = record.shares[i], wanted[i]
    if new > old and refuses(leg) and now < gone_of(leg) then
      local settled, held, overrun = state_of(leg, window_on(leg))
      if settled + held + new - old > leg[LIMIT] then
        refused[#refused + 1] = {0, i, new, settled, held - old, overrun, 0}
      end
    end
  end
  return refused
end

local bad = misfit() or overdue()
if bad then return bad end
local record = read_open(ARGV[6])
if not record then
  local row = redis.call('HGET', bucket_of(ARGV[7]), ARGV[7])
  if row and string.sub(row, 1, 1) == 's' and tonumber(string.match(row, '^%a:(%x+):'), 16) > now then
    return {'known', '', row}
  end
  return {'unknown'}
end
if record.state ~= 'h' then return {'ended', record.text} end
if not record.body then return {'lost', KEYS[4]} end
if not all_given(record.meters) then return {'need', record.body_text} end
local wanted, moves = raised(record), {}
local refused = short(record, wanted)
if #refused > 0 then return {'denied', now, 0, refused, {}, record.text, record.body_text} end
for i, leg in ipairs(record.meters) do
  local more = wanted[i] - record.shares[i]
  if more ~= 0 and now < gone_of(leg) then
    move(leg, 0, more, 0)
    moves[#moves + 1] = move_text(leg, 0, more, 0)
  end
end
record.shares = wanted
record.expires = math.max(record.expires, record.body.created_ms + math.max(0, tonumber(ARGV[8])))
local due = record.expires + record.body.grace_ms
for _, leg in ipairs(record.body.legs) do
  if (leg[IDLE] or 0) > 0 then keep(leg, math.max(now + leg[IDLE], due)) end
end
if #moves > 0 then append('extend', record.id, record.user or '', '{"moves":[' .. table.concat(moves, ',') .. ']}') end
save()
write_open(record, due)
return {'extended', redis.call('HGET', KEYS[2], ARGV[6]), record.body_text}
