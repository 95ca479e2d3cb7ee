-- Open the circuit of an account. ARGV: prefix, account, state (parked or down), reason, job, first ms, threshold.
-- 'down' only from the threshold-th failure in a row on, or from the first while the account is half-open after it was
-- open: then it is probed no sooner than it was at last. Returns the account's state.
local prefix, account, state, reason, job = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local key = prefix .. 'account:' .. account
local is, trial, last = unpack(redis.call('HMGET', key, 'state', 'trial', 'interval'))
if is == 'parked' or (is == 'down' and state == 'down') then return is end
local failures = state == 'down' and redis.call('HINCRBY', key, 'failures', 1) or 0
if state == 'down' and not trial and failures < tonumber(ARGV[7]) then return 'ok' end
local interval = (trial and last) or ARGV[6]
if not is or is == 'ok' then redis.call('HSET', key, 'since', now) end
redis.call('HSET', key, 'state', state, 'reason', reason, 'job', job, 'interval', interval, 'probe_at', now + tonumber(interval))
redis.call('SADD', prefix .. 'accounts', account)
return state
