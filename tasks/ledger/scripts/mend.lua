-- Look at one job or due entry, and mend what does not fit. ARGV: prefix, id, lane ('' to look at the job itself), mend.
-- Returns what is wrong: '' (nothing), 'due without job', 'job without due', 'open without job', 'job not open'.
local prefix, id, lane, mend = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1'
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local row = redis.call('HMGET', prefix .. 'job:' .. id, 'step', 'lane', 'stage', 'account', 'created_at')

if lane ~= '' then
  local lost = not row[1] or row[1] == '' or row[2] ~= lane
  if not lost or not redis.call('ZSCORE', prefix .. 'due:' .. lane, id) then return '' end
  if mend then redis.call('ZREM', prefix .. 'due:' .. lane, id) end
  return 'due without job'
end

if not row[1] then return '' end
local final = row[3] == 'delivered' or row[3] == 'failed' or row[3] == 'cancelled'
local open = redis.call('ZSCORE', prefix .. 'open:' .. row[4], id)
if row[1] ~= '' and not redis.call('ZSCORE', prefix .. 'due:' .. row[2], id) then
  if mend then redis.call('ZADD', prefix .. 'due:' .. row[2], now, id) end
  return 'job without due'
end
if final and open then
  if mend then redis.call('ZREM', prefix .. 'open:' .. row[4], id) end
  return 'open without job'
end
if not final and not open then
  if mend then redis.call('ZADD', prefix .. 'open:' .. row[4], row[5], id) end
  return 'job not open'
end
return ''
