-- publish: put a policy in force in the place of the one that the caller has read, and fill the meters of new caps.
--
-- ARGV 6 the revision that was read  7 the document with its revision, JSON  8 body of the entry
--      9 the newest entry that the fill has seen, '' without one  10 legs to fill, JSON  11 what is settled on them, JSON
-- Returns {'published', now} or {'overtaken'}

local PAGE = 500

-- Open the meters that are not there yet, a page of them per entry.
local function fill(legs, shares)
  local moves, gone = {}, {}
  for i, leg in ipairs(legs) do
    local row = row_at(field_of(leg))
    local there = not row.new
    if rolling(leg) then there = row.window[leg[PERIOD]] ~= nil end
    if not there then
      move(leg, shares[i], 0, 0)
      moves[#moves + 1] = move_text(leg, shares[i], 0, 0)
      gone[#gone + 1] = gone_of(leg)
    end
    if #moves == PAGE or (i == #legs and #moves > 0) then
      append('backfill', '', '', '{"moves":[' .. table.concat(moves, ',') .. '],"gone":[' .. numbers(gone) .. ']}')
      save()
      moves, gone = {}, {}
    end
  end
end

local bad = misfit()
if bad then return bad end
if meta[6] ~= ARGV[6] or (ARGV[9] ~= '' and num(seq) ~= ARGV[9]) then return {'overtaken'} end
local revision = num(tonumber(ARGV[6]) + 1)
append('publish', '', '', ARGV[8])
redis.call('HSET', KEYS[6], revision, ARGV[7])
redis.call('HSET', KEYS[1], 'policy', revision)
save()
if ARGV[9] ~= '' then fill(cjson.decode(ARGV[10]), cjson.decode(ARGV[11])) end
return {'published', now}
