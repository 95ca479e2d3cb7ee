-- Reserve a document's name for one job, so that two documents of one name for one patient are never sent at once.
--
-- Needs: due, names
--
-- ARGV[1]  key prefix
-- ARGV[2]  job id
-- ARGV[3]  the name (an HMAC)
-- ARGV[4]  the name with the document's size (an HMAC), under which deliveries are found again
-- Returns  {the id of the job that holds the name: the caller's if it does now; such deliveries of the last 30 days: SHA-256,
--          job id, SHA-256, job id, ...}
local prefix, id, name, sent = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local holder = ask_for_name(prefix, name, id, function()
  return redis.call('HGET', prefix .. 'job:' .. id, 'created_at') or 0
end)
if holder ~= id then return {holder, {}} end
return {id, redis.call('HGETALL', prefix .. 'sent:' .. sent)}
