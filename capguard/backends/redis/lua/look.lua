-- look: the meters behind these legs, in the window and the run that are on.
--
-- ARGV 6 legs, JSON
-- Returns {'meters', now, {settled, held, overrun} ...}

local bad = misfit() or overdue()
if bad then return bad end
local reply = {'meters', now}
for _, leg in ipairs(cjson.decode(ARGV[6])) do
  on_run(leg)
  local state = {0, 0, 0}
  if now < gone_of(leg) then state = {state_of(leg, window_on(leg))} end
  reply[#reply + 1] = state
end
return reply
