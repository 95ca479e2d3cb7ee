-- Check one job or one due entry, and mend it if asked to. Reading and mending are one script, so that no move of a
-- worker comes in between.
--
-- Needs: clock
--
-- ARGV[1]  key prefix
-- ARGV[2]  job id
-- ARGV[3]  lane of the due entry (with @ and the machine, for work of one machine), or '' to check the job itself
-- ARGV[4]  '1' to mend
-- Returns  what is wrong: '' (nothing), 'due without job', 'job without due', 'open without job', 'job not open',
--          'job not among those that have ended'
local prefix, id, lane, mend = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1'
local now = read_clock(prefix)
local step, own_lane, stage, account, created_at, home, updated_at =
  unpack(redis.call('HMGET', prefix .. 'job:' .. id, 'step', 'lane', 'stage', 'account', 'created_at', 'home', 'updated_at'))
if own_lane and home then own_lane = own_lane .. '@' .. home end

if lane ~= '' then
  local orphan = not step or step == '' or own_lane ~= lane
  -- The entry was listed a moment ago, and may have been removed since.
  if not orphan or not redis.call('ZSCORE', prefix .. 'due:' .. lane, id) then return '' end
  if mend then redis.call('ZREM', prefix .. 'due:' .. lane, id) end
  return 'due without job'
end

if not step then return '' end
local final = stage == 'delivered' or stage == 'failed' or stage == 'cancelled'
local open = redis.call('ZSCORE', prefix .. 'open:' .. account, id)
if step ~= '' and not redis.call('ZSCORE', prefix .. 'due:' .. own_lane, id) then
  if mend then redis.call('ZADD', prefix .. 'due:' .. own_lane, now, id) end
  return 'job without due'
end
if final and open then
  if mend then redis.call('ZREM', prefix .. 'open:' .. account, id) end
  return 'open without job'
end
if not final and not open then
  if mend then redis.call('ZADD', prefix .. 'open:' .. account, created_at, id) end
  return 'job not open'
end
if final and not redis.call('ZSCORE', prefix .. 'finished', id) then
  if mend then redis.call('ZADD', prefix .. 'finished', updated_at, id) end
  return 'job not among those that have ended'
end
return ''
