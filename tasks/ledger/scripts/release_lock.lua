-- Release a lock, if the caller still has it: after its time it may have passed to another.
--
-- KEYS[1]  the lock
-- ARGV[1]  what `take_lock.lua` has returned
-- Returns  1 if it was released, else 0
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
