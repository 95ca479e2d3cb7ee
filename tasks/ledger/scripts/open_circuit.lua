-- Open the circuit of an account, or count a failure towards that.
--
-- Needs: clock
--
-- ARGV[1]  key prefix
-- ARGV[2]  account
-- ARGV[3]  'parked' (opens at once) or 'down' (opens when failures in a row reach the threshold)
-- ARGV[4]  reason
-- ARGV[5]  id of the job that parked the account, or ''
-- ARGV[6]  ms until the first probe
-- ARGV[7]  threshold for 'down'
-- Returns  the account's state now: 'ok', 'parked' or 'down'
local prefix, account, state, reason, job = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local now = read_clock(prefix)
local key = prefix .. 'account:' .. account
local current, half_open, last_interval = unpack(redis.call('HMGET', key, 'state', 'trial', 'interval'))
if current == 'parked' or (current == 'down' and state == 'down') then return current end
local failures = state == 'down' and redis.call('HINCRBY', key, 'failures', 1) or 0
-- Half-open, one failure is enough: the account has just been down.
if state == 'down' and not half_open and failures < tonumber(ARGV[7]) then return 'ok' end
-- After a half-open circuit opens again, probes go on at their last interval. Otherwise an account whose probes succeed
-- and whose documents fail would be probed as often as at first, for ever.
local interval = (half_open and last_interval) or ARGV[6]
if not current or current == 'ok' then redis.call('HSET', key, 'since', now) end
redis.call('HSET', key, 'state', state, 'reason', reason, 'job', job)
redis.call('HSET', key, 'interval', interval, 'probe_at', now + tonumber(interval))
redis.call('SADD', prefix .. 'accounts', account)
return state
