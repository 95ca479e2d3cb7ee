-- Open a job, once. ARGV: prefix, id, lane, idempotency key (HMAC or ''), its fingerprint, then field, value, ...
local prefix, id, lane, idem, fingerprint = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local alias = redis.call('GET', prefix .. 'alias:' .. id)
if alias then return {'same', alias} end
if redis.call('EXISTS', prefix .. 'job:' .. id) == 1 then return {'exists', id} end

if idem ~= '' then
  local key = prefix .. 'idem:' .. idem
  local seen = redis.call('HMGET', key, 'job', 'fingerprint')
  if seen[1] and redis.call('EXISTS', prefix .. 'job:' .. seen[1]) == 1 then
    if seen[2] ~= fingerprint then return {'conflict', seen[1]} end
    redis.call('SET', prefix .. 'alias:' .. id, seen[1], 'EX', 2592000)
    redis.call('SADD', prefix .. 'aliases:' .. seen[1], id)
    redis.call('EXPIRE', prefix .. 'aliases:' .. seen[1], 2592000)
    return {'same', seen[1]}
  end
  redis.call('HSET', key, 'job', id, 'fingerprint', fingerprint)
  redis.call('EXPIRE', key, 2592000)
end

local row = prefix .. 'job:' .. id
redis.call('HSET', row, unpack(ARGV, 6))
redis.call('HSET', row, 'lane', lane, 'created_at', now, 'updated_at', now, 'next_at', now, 'at_received', now)
local fields = redis.call('HMGET', row, 'account', 'stage')
redis.call('SADD', prefix .. 'accounts', fields[1])
redis.call('HSET', row, 'sick_before', redis.call('HGET', prefix .. 'account:' .. fields[1], 'sick_ms') or '0')
redis.call('ZADD', prefix .. 'due:' .. lane, now, id)
redis.call('ZADD', prefix .. 'jobs', now, id)
if fields[2] == 'failed' then
  redis.call('HSET', row, 'at_failed', now)
  redis.call('ZADD', prefix .. 'finished', now, id)
else
  redis.call('ZADD', prefix .. 'open:' .. fields[1], now, id)
end
return {'opened', id}
