-- Reserve a document's name for one job, so that two of the same name for one patient never fly at once.
-- ARGV: prefix, id, name. Returns the holder: our id when it is ours now.
local prefix, id, name = ARGV[1], ARGV[2], ARGV[3]
local key, queue = prefix .. 'name:' .. name, prefix .. 'name-queue:' .. name
local holder = redis.call('GET', key)
if holder and holder ~= id and redis.call('EXISTS', prefix .. 'job:' .. holder) == 1 then
  redis.call('ZADD', queue, 'NX', redis.call('HGET', prefix .. 'job:' .. id, 'created_at') or 0, id)
  return holder
end
redis.call('SET', key, id)
redis.call('ZREM', queue, id)
return id
