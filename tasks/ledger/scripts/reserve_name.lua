-- Reserve a document's name for one job, so that two documents of one name for one patient are never sent at once.
--
-- ARGV[1]  key prefix
-- ARGV[2]  job id
-- ARGV[3]  the name (an HMAC)
-- ARGV[4]  the name with the document's size (an HMAC), under which deliveries are found again
-- Returns  {the id of the job that holds the name: the caller's if it does now; such deliveries of the last 30 days: SHA-256,
--          job id, SHA-256, job id, ...}
local prefix, id, name, sent = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local key, queue = prefix .. 'name:' .. name, prefix .. 'name-queue:' .. name
local holder = redis.call('GET', key)
-- A holder whose row is gone will never give the name back.
if holder and holder ~= id and redis.call('EXISTS', prefix .. 'job:' .. holder) == 1 then
  -- The oldest waits at the front. move.lua wakes it when the holder gives the name back.
  redis.call('ZADD', queue, 'NX', redis.call('HGET', prefix .. 'job:' .. id, 'created_at') or 0, id)
  return {holder, {}}
end
redis.call('SET', key, id)
redis.call('ZREM', queue, id)
return {id, redis.call('HGETALL', prefix .. 'sent:' .. sent)}
