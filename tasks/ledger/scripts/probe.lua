-- Take the probe of an unwell account, or report it well. ARGV: prefix, account, what (take | well), cap ms.
-- take: returns 1 when the caller shall probe now; the next probe is then due after twice the interval.
-- well: the account is then on trial, with one document at a time, until the provider has taken one.
local prefix, account, what = ARGV[1], ARGV[2], ARGV[3]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local key = prefix .. 'account:' .. account
local is = redis.call('HMGET', key, 'state', 'probe_at', 'interval', 'since')
if is[1] ~= 'parked' and is[1] ~= 'down' then return 0 end
if what == 'well' then
  redis.call('HINCRBY', key, 'sick_ms', now - tonumber(is[4]))
  redis.call('HDEL', key, 'state', 'reason', 'job', 'since', 'probe_at', 'failures')
  redis.call('HSET', key, 'trial', '1')
  return 1
end
if tonumber(is[2]) > now then return 0 end
local interval = math.min(tonumber(is[3]) * 2, tonumber(ARGV[4]))
redis.call('HSET', key, 'interval', interval, 'probe_at', now + interval)
return 1
