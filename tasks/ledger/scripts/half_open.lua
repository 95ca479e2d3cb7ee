-- Half-open the circuit of an account whose probe has succeeded.
--
-- Needs: clock
--
-- ARGV[1]  key prefix
-- ARGV[2]  account
-- Returns  1, or 0 if the account was not parked or down
local key = ARGV[1] .. 'account:' .. ARGV[2]
local now = read_clock(ARGV[1])
local state, since = unpack(redis.call('HMGET', key, 'state', 'since'))
if state ~= 'parked' and state ~= 'down' then return 0 end
redis.call('HINCRBY', key, 'sick_ms', now - tonumber(since))
-- The interval stays: if the circuit opens again, probes go on at it. A document that is taken removes it (move.lua).
redis.call('HDEL', key, 'state', 'reason', 'job', 'since', 'probe_at', 'failures')
redis.call('HSET', key, 'trial', '1')
return 1
