-- Open a job, once per id and once per idempotency key.
--
-- ARGV[1]  key prefix
-- ARGV[2]  job id
-- ARGV[3]  lane of its due entry
-- ARGV[4]  idempotency key (an HMAC), or ''
-- ARGV[5]  fingerprint of the request (an HMAC): tells whether two calls with one idempotency key ask for the same
-- ARGV[6…] the row: field, value, field, value, ...
-- Returns  {kind, job id}: 'opened'; 'exists' (the same id before); 'same' (the id is an alias, or the idempotency key
--          has opened another job); 'conflict' (the idempotency key was used for another document)
local prefix, id, lane, idempotency_key, fingerprint = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local MONTH = 2592000  -- seconds
local now, wall = read_clock(prefix)

-- Due entries of a job that only one machine can work on are in a list of that machine.
local function due_key(lane, home)
  return prefix .. 'due:' .. lane .. (home and '@' .. home or '')
end

local alias = redis.call('GET', prefix .. 'alias:' .. id)
if alias then return {'same', alias} end
if redis.call('EXISTS', prefix .. 'job:' .. id) == 1 then return {'exists', id} end

if idempotency_key ~= '' then
  local key = prefix .. 'idem:' .. idempotency_key
  local earlier, its_fingerprint = unpack(redis.call('HMGET', key, 'job', 'fingerprint'))
  if earlier and redis.call('EXISTS', prefix .. 'job:' .. earlier) == 1 then
    if its_fingerprint ~= fingerprint then return {'conflict', earlier} end
    redis.call('SET', prefix .. 'alias:' .. id, earlier, 'EX', MONTH)
    redis.call('SADD', prefix .. 'aliases:' .. earlier, id)
    redis.call('EXPIRE', prefix .. 'aliases:' .. earlier, MONTH)
    return {'same', earlier}
  end
  redis.call('HSET', key, 'job', id, 'fingerprint', fingerprint)
  redis.call('EXPIRE', key, MONTH)
end

local row = prefix .. 'job:' .. id
redis.call('HSET', row, unpack(ARGV, 6))
redis.call('HSET', row, 'lane', lane, 'created_at', wall, 'updated_at', wall, 'next_at', now,
  'at_received', wall, 'since_received', now)
local account, stage, home = unpack(redis.call('HMGET', row, 'account', 'stage', 'home'))
redis.call('SADD', prefix .. 'accounts', account)
if home then redis.call('SADD', prefix .. 'machines', home) end
-- How long the account had been parked or down by now: that time is subtracted from what the job waits later.
redis.call('HSET', row, 'sick_before', redis.call('HGET', prefix .. 'account:' .. account, 'sick_ms') or '0')
redis.call('ZADD', due_key(lane, home), now, id)
redis.call('ZADD', prefix .. 'jobs', wall, id)
if stage == 'failed' then  -- refused at the door: only its closing is left
  redis.call('HSET', row, 'at_failed', wall, 'since_failed', now)
  redis.call('ZADD', prefix .. 'finished', wall, id)
else
  redis.call('ZADD', prefix .. 'open:' .. account, wall, id)
end
return {'opened', id}
