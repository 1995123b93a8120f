-- release: drop a hold, or take back what an expiry booked. An unknown id leaves a tombstone that refuses a late reserve.
--
-- ARGV 6 id  7 its row  8 retention in ms
-- Returns {'released', changed} or {'need', body}

local bad = misfit() or overdue()
if bad then return bad end
local record = read_open(ARGV[6])
if not record then
  local row = redis.call('HGET', bucket_of(ARGV[7]), ARGV[7])
  if not row or tonumber(string.match(row, '^%a:(%x+):'), 16) <= now then
    remember(ARGV[7], 't', now + tonumber(ARGV[8]), 0, 0, 0, '')
    save()
  end
  return {'released', 0}
end
if record.state == 'r' then return {'released', 0} end
if not record.body then return {'lost', KEYS[4]} end
if not all_given(record.meters) then return {'need', record.body_text} end
book(record, 'release', {}, '{}', '{}')
record.state = 'r'
write_open(record, now + record.body.retention_ms)
return {'released', 1}
