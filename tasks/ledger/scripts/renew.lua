-- Renew leases.
--
-- ARGV[1]  key prefix
-- ARGV[2]  lease in ms
-- ARGV[3…] job id, fencing token, job id, fencing token, ...
-- Returns  a list with 1 for each lease that was renewed, and 0 for each that is lost
local prefix, lease = ARGV[1], tonumber(ARGV[2])
local now = read_clock(prefix)
local renewed = {}
for i = 3, #ARGV, 2 do
  local id, token, row = ARGV[i], ARGV[i + 1], prefix .. 'job:' .. ARGV[i]
  local current_token, lane, lease_until, home =
    unpack(redis.call('HMGET', row, 'token', 'lane', 'lease_until', 'home'))
  -- A lease that a move has released has the time 0. It must not come back to life by a renewal that was on its way.
  if current_token == token and tonumber(lease_until or '0') > 0 then
    redis.call('HSET', row, 'lease_until', now + lease, 'next_at', now + lease)
    -- The due entry of a job that only one machine can work on is in a list of that machine.
    redis.call('ZADD', prefix .. 'due:' .. lane .. (home and '@' .. home or ''), now + lease, id)
    redis.call('ZADD', prefix .. 'flying:' .. lane, 'XX', now + lease, id)  -- confirm holds one slot for many jobs
    renewed[#renewed + 1] = 1
  else
    renewed[#renewed + 1] = 0
  end
end
return renewed
