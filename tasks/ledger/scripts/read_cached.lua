-- Read a value of the cache.
--
-- KEYS[1]  its key
-- Returns  {the value, the ms for which it is still kept}; nil if there is none
local value = redis.call('GET', KEYS[1])
return value and {value, redis.call('PTTL', KEYS[1])}
