-- An account is unwell. ARGV: prefix, account, state (parked or down), reason, job, first ms, threshold.
-- 'down' only from the threshold-th failure in a row on. Returns the account's state.
local prefix, account, state, reason, job = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local key = prefix .. 'account:' .. account
local is = redis.call('HGET', key, 'state')
if is == 'parked' or (is == 'down' and state == 'down') then return is end
if state == 'down' and redis.call('HINCRBY', key, 'failures', 1) < tonumber(ARGV[7]) then return 'ok' end
if not is or is == 'ok' then redis.call('HSET', key, 'since', now) end
redis.call('HSET', key, 'state', state, 'reason', reason, 'job', job, 'interval', ARGV[6], 'probe_at', now + tonumber(ARGV[6]))
redis.call('SADD', prefix .. 'accounts', account)
return state
