-- Take the probe of an account that is parked or down, if it is due.
--
-- Needs: clock
--
-- ARGV[1]  key prefix
-- ARGV[2]  account
-- ARGV[3]  longest interval between two probes, in ms
-- Returns  1 if the caller must probe now, else 0
local key = ARGV[1] .. 'account:' .. ARGV[2]
local now = read_clock(ARGV[1])
local state, probe_at, interval = unpack(redis.call('HMGET', key, 'state', 'probe_at', 'interval'))
if state ~= 'parked' and state ~= 'down' then return 0 end
if tonumber(probe_at) > now then return 0 end
-- The next one is due before this one has an answer: a prober that dies leaves no account without probes.
local next_interval = math.min(tonumber(interval) * 2, tonumber(ARGV[3]))
redis.call('HSET', key, 'interval', next_interval, 'probe_at', now + next_interval)
return 1
