-- release: drop a hold, or take back what an expiry booked. An unknown id leaves a tombstone that refuses a late reserve.
--
-- ARGV 9.. the reservation (ending.lua)  17 retention in ms of a tombstone
-- Returns {'released', seq, mark, changed, rows to spare} or {'need', ...} as settle

local bad = misfit() or overdue()
if bad then return bad end
local record = read_record(9)
if not record.text then
  if not ended(record.row) then
    remember(record.bucket, record.row, 't', now + tonumber(ARGV[17]), 0, 0, 0, '')
    save()
  end
  return {'released', seq, mark, 0, size * 56 - rows}
end
if record.state == 'r' then return {'released', seq, mark, 0, 0} end
if not record.meters then return needed(record) end
book(record, 'release', {}, '{}', '{}')
save()
record.state = 'r'
write_open(record, now + record.retention)
return {'released', seq, mark, 1, size * 56 - rows}
