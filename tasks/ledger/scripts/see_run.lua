-- See which run of Redis this is, and how many commits it knew when it was first seen.
--
-- Needs: clock
--
-- ARGV[1]  key prefix
-- ARGV[2]  run id of this Redis
-- ARGV[3]  a new mark for the run. A wipe takes the mark away and leaves the run id, so that another run begins with it
-- Returns  {commits that it knew then, ms since it was first seen, names of the machines that have reported, the mark}
local prefix, run, new_mark = ARGV[1], ARGV[2], ARGV[3]
local key = prefix .. 'run'
local now = read_clock(prefix)
if redis.call('HGET', key, 'id') ~= run or not redis.call('HGET', key, 'mark') then
  redis.call('DEL', key, prefix .. 'run:reported')
  redis.call('HSET', key, 'id', run, 'mark', new_mark, 'at', now, 'commits', redis.call('GET', prefix .. 'commits') or '0')
end
local commits, at, mark = unpack(redis.call('HMGET', key, 'commits', 'at', 'mark'))
return {tonumber(commits), now - tonumber(at), redis.call('SMEMBERS', prefix .. 'run:reported'), mark}
