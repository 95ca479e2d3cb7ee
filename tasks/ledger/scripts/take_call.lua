-- Count one request of a limit group, unless it has had as many in a minute as it may.
--
-- A window that slides over Redis's own time: it must also move while no worker looks at the ledger's clock.
--
-- ARGV[1]  key prefix
-- ARGV[2]  limit group
-- ARGV[3]  how many requests a minute may have
-- Returns  0 if the request may be made, else in how many ms one may: a minute at most
local prefix, group, per_minute = ARGV[1], ARGV[2], tonumber(ARGV[3])
local MINUTE = 60000
local _, wall = read_clock(prefix)
local calls = prefix .. 'calls-of:' .. group  -- when each was made, the latest first
-- Redis's clock was set back since: nothing tells how long ago these were made, and they must not count for hours.
while tonumber(redis.call('LINDEX', calls, 0) or 0) > wall do redis.call('LPOP', calls) end
while tonumber(redis.call('LINDEX', calls, -1) or wall) <= wall - MINUTE do redis.call('RPOP', calls) end
-- An account of the group may allow fewer than another has made, so it counts from the latest.
local first = redis.call('LINDEX', calls, per_minute - 1)
if not first then
  redis.call('LPUSH', calls, wall)
  redis.call('PEXPIRE', calls, MINUTE)
  return 0
end
return math.min(first + MINUTE - wall, MINUTE)
