-- Note that a machine has told this run of Redis of every commit that it had forgotten.
--
-- ARGV[1]  key prefix
-- ARGV[2]  mark of this run (see_run.lua)
-- ARGV[3]  the machine
-- ARGV[4]  the highest number of a commit that the machine knows
-- Returns  1, or 0 if another run has begun
local prefix, mark, machine, highest = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if redis.call('HGET', prefix .. 'run', 'mark') ~= mark then return 0 end
redis.call('SADD', prefix .. 'run:reported', machine)
-- After the next restart the others wait for it. A machine where only a watcher runs never reports.
redis.call('HSET', prefix .. 'machine:' .. machine, 'sends', 1)
-- The numbers go on above all that were given before, so that a later copy can be told from an earlier one.
if highest > tonumber(redis.call('GET', prefix .. 'commits') or '0') then
  redis.call('SET', prefix .. 'commits', string.format('%.0f', highest))
end
return 1
