-- Count requests of a limit group before they are made, unless it has had as many in its window as it may.
--
-- Needs: clock
--
-- A window that slides over Redis's own time: it must also move while no worker looks at the ledger's clock.
--
-- ARGV[1]  key prefix
-- ARGV[2]  limit group
-- ARGV[3]  how many requests the window may have
-- ARGV[4]  the window, in ms
-- ARGV[5]  how many the caller wants to make
-- Returns  {how many of these may be made, in how many ms one may be made if none may now: a window at most}
local prefix, group, most, window, wanted = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local _, wall = read_clock(prefix)
local calls = prefix .. 'calls-of:' .. group  -- when each was counted, the latest first
-- Redis's clock was set back since: nothing tells how long ago these were made, and they must not count for hours.
while tonumber(redis.call('LINDEX', calls, 0) or 0) > wall do redis.call('LPOP', calls) end
while tonumber(redis.call('LINDEX', calls, -1) or wall) <= wall - window do redis.call('RPOP', calls) end
local free = most - redis.call('LLEN', calls)
if free <= 0 then
  -- An account of the group may allow fewer than another has made, so it counts from the latest.
  local first = redis.call('LINDEX', calls, most - 1)
  return {0, math.min(first + window - wall, window)}
end
local taken = {}
for place = 1, math.min(wanted, free) do taken[place] = wall end
redis.call('LPUSH', calls, unpack(taken))
redis.call('PEXPIRE', calls, window)
return {#taken, 0}
