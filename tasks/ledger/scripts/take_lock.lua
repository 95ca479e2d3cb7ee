-- Take a lock, if it is free.
--
-- KEYS[1]  the lock
-- ARGV[1]  the caller's mark
-- ARGV[2]  how long the lock lasts at most, in ms
-- Returns  what stands in the lock now that the caller has it, for `release_lock.lua`; '' if another has it
local mark = ARGV[2] .. ' ' .. ARGV[1]
if redis.call('SET', KEYS[1], mark, 'NX', 'PX', ARGV[2]) then return mark end
local lasts = tonumber(string.match(redis.call('GET', KEYS[1]), '^(%d+) '))
-- With more time left than it was given, Redis's clock was set back since: it would stay for as long.
if not lasts or redis.call('PTTL', KEYS[1]) <= lasts then return '' end
redis.call('SET', KEYS[1], mark, 'PX', ARGV[2])
return mark
