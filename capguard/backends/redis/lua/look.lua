-- look: the meters behind these legs, in the window and the run that are on.
--
-- ARGV 9 legs
-- Returns {'meters', seq, mark, now, {settled, held, overrun} ...}

local bad = misfit() or overdue()
if bad then return bad end
local legs = read_legs(ARGV[9], '')
local idle = want_legs(legs)
fetch()
if idle then on_runs(legs) end
local reply = {'meters', seq, mark, now}
for _, leg in ipairs(legs) do
  local state = {0, 0, 0}
  if now < gone_of(leg) then state = {state_of(leg, window_on(leg))} end
  reply[#reply + 1] = state
end
return reply
