-- Hold a lock for longer, or release it, if the caller still has it: after its time it may have passed to another.
--
-- KEYS[1]  the lock
-- ARGV[1]  the caller's mark in it
-- ARGV[2]  ms to hold it from now on; 0 releases it
-- Returns  1 if the caller had it, else 0
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
