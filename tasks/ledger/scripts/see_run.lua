-- See which run of Redis this is, and how many commits it knew when it was first seen.
--
-- ARGV[1]  key prefix
-- ARGV[2]  run id of this Redis
-- Returns  {commits that it knew then, ms since it was first seen, names of the machines that have reported}
local prefix, run = ARGV[1], ARGV[2]
local key = prefix .. 'run'
local now = read_clock(prefix)
if redis.call('HGET', key, 'id') ~= run then
  redis.call('DEL', key, prefix .. 'run:reported')
  redis.call('HSET', key, 'id', run, 'at', now, 'commits', redis.call('GET', prefix .. 'commits') or '0')
end
local commits, at = unpack(redis.call('HMGET', key, 'commits', 'at'))
return {tonumber(commits), now - tonumber(at), redis.call('SMEMBERS', prefix .. 'run:reported')}
