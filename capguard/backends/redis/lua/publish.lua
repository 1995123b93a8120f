-- publish: put a policy in force in the place of the one that the caller has read, and fill the meters of new caps.
--
-- ARGV 9 the revision that was read  10 the new one  11 the document with its revision, JSON  12 body of the entry
--      13 the newest entry that the fill has seen, '' without one  14 legs to fill  15 what is settled on them
-- Returns {'published', seq, mark, now, rows to spare} or {'overtaken', seq, mark}

local PAGE = 500

-- Open the meters that are not there yet, a page of them per entry.
local function fill(legs, shares)
  local moves, gone, turns = {}, {}, {}
  for i, leg in ipairs(legs) do
    local row = cache[leg[FIELD]]
    local there = not row.new
    if rolling(leg) then there = row.window[leg[PERIOD]] ~= nil end
    if not there then
      row.new = nil
      moves[#moves + 1] = move_text(leg[METER], leg[PERIOD], shares[i], 0, 0)
      gone[#gone + 1] = gone_of(leg)
      turns[#turns + 1] = rolling(leg) and 'true' or 'false'
      move(leg, shares[i], 0, 0)
    end
    if #moves == PAGE or (i == #legs and #moves > 0) then
      append('backfill', '', '', '{"moves":[' .. table.concat(moves, ',') .. '],"gone":[' .. numbers(gone) ..
        '],"rolling":[' .. table.concat(turns, ',') .. ']}')
      save()
      moves, gone, turns = {}, {}, {}
    end
  end
end

local bad = misfit()
if bad then return bad end
local legs = read_legs(ARGV[14], '')
want_legs(legs)
fetch()
field_in(KEYS[6], '')
if meta[6] ~= ARGV[9] or (ARGV[13] ~= '' and num(seq) ~= ARGV[13]) then return {'overtaken', seq, mark} end
append('publish', '', '', ARGV[12])
redis.call('HSET', KEYS[6], ARGV[10], ARGV[11])
redis.call('HSET', KEYS[1], 'policy', ARGV[10])
save()
fill(legs, read_numbers(ARGV[15]))
return {'published', seq, mark, now, size * 56 - rows}
