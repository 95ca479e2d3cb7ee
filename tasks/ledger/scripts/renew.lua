-- Renew leases.
--
-- Needs: clock, due
--
-- ARGV[1]  key prefix
-- ARGV[2]  lease in ms
-- ARGV[3…] job id, fencing token, '1' if its step has run for longer than it should else '', job id, ...
-- Returns  a list with 1 for each lease that was renewed, and 0 for each that is lost
local prefix, lease = ARGV[1], tonumber(ARGV[2])
local now = read_clock(prefix)
local OUTAGES = {OOM = true, READONLY = true, MISCONF = true, NOREPLICAS = true, MASTERDOWN = true}

local function renew(id, token, slow)
  local row = prefix .. 'job:' .. id
  local current_token, lane, lease_until, home =
    unpack(redis.call('HMGET', row, 'token', 'lane', 'lease_until', 'home'))
  -- A lease that a move has released has the time 0. It must not come back to life by a renewal that was on its way.
  if current_token ~= token or tonumber(lease_until or '0') <= 0 then return 0 end
  redis.call('HSET', row, 'lease_until', now + lease, 'next_at', now + lease)
  redis.call('ZADD', due_key(prefix, lane, home), now + lease, id)
  redis.call('ZADD', prefix .. 'flying:' .. lane, 'XX', now + lease, id)  -- confirm holds one slot for many jobs
  -- take_due.lua keeps slots for the others.
  if slow and string.sub(lane, 1, 1) ~= '~' then redis.call('HSET', prefix .. 'account:' .. lane, 'slow_at', now) end
  return 1
end

local renewed = {}
for i = 3, #ARGV, 3 do
  -- A key that has become another type costs its own job the lease, and no other.
  local done, result = pcall(renew, ARGV[i], ARGV[i + 1], ARGV[i + 2] == '1')
  if not done then
    local text = type(result) == 'table' and result.err or tostring(result)
    if OUTAGES[string.match(text, '^%-?(%u+)')] then error(result, 0) end
    result = 0
  end
  renewed[#renewed + 1] = result
end
return renewed
