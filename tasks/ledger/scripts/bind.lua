-- Note that only one machine can work on a job, because the job's files lie there. Its due entry goes to that machine.
--
-- Needs: due
--
-- ARGV[1]  key prefix
-- ARGV[2]  job id
-- ARGV[3]  the machine
-- Returns  1 if the job was another machine's, or any machine's, before; else 0
local prefix, id, machine = ARGV[1], ARGV[2], ARGV[3]
local row = prefix .. 'job:' .. id
local lane, home = unpack(redis.call('HMGET', row, 'lane', 'home'))
if not lane or home == machine then return 0 end
redis.call('HSET', row, 'home', machine)
redis.call('SADD', prefix .. 'machines', machine)
local before, after = due_key(prefix, lane, home), due_key(prefix, lane, machine)
local due_at = redis.call('ZSCORE', before, id)
if due_at then
  redis.call('ZREM', before, id)
  redis.call('ZADD', after, due_at, id)
end
return 1
