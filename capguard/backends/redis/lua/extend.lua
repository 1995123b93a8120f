-- extend: lengthen or raise a hold to the totals given, never lowering either.
--
-- ARGV 9.. the reservation (ending.lua)  17 ttl in ms or -1  18 the whole hold, by the number of the unit, or ''
-- Returns {'extended', seq, mark, open text} or {'denied', seq, mark, now, refused} or {'ended', seq, mark, open text}
--      or {'unknown', seq, mark} or {'known', seq, mark, row} or {'need', ...} as settle; a miss is as in reserve

local function raised(record)
  if ARGV[18] == '' then return record.shares end
  local wanted = {}
  for i, share in ipairs(shares_of(record, read_numbers(ARGV[18]))) do wanted[i] = math.max(share, record.shares[i]) end
  return wanted
end

-- The enforcing legs on which the raised hold does not fit, beside what others have.
local function short(record, wanted)
  local refused = {}
  for i = 1, record.count do
    local leg, old, new = record.meters[i], record.shares[i], wanted[i]
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
local record = read_record(9)
if not record.text then
  local row = ended(record.row)
  if row and string.sub(row, 1, 1) == 's' then return {'known', seq, mark, row} end
  return {'unknown', seq, mark}
end
if record.state ~= 'h' then return {'ended', seq, mark, record.text} end
if not record.meters then return needed(record) end
local wanted, moves = raised(record), {}
local refused = short(record, wanted)
if #refused > 0 then return {'denied', seq, mark, now, refused} end
for i, leg in ipairs(record.meters) do
  local more = wanted[i] - record.shares[i]
  if more ~= 0 and now < gone_of(leg) then
    move(leg, 0, more, 0)
    moves[#moves + 1] = move_text(leg[METER], leg[PERIOD], 0, more, 0)
  end
end
record.shares = wanted
local before = record.expires
record.expires = math.max(before, record.created + math.max(0, tonumber(ARGV[17])))
local due = record.expires + record.grace
for i = 1, record.count do
  local leg = record.meters[i]
  if leg[IDLE] > 0 then keep(leg, math.max(now + leg[IDLE], due)) end
end
if #moves > 0 or record.expires > before then
  append('extend', record.id, record.user, '{"moves":[' .. table.concat(moves, ',') .. '],"expires_ms":' ..
    num(record.expires) .. '}')
end
save()
write_open(record, due)
return {'extended', seq, mark, record.text}
