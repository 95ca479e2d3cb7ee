-- Hold a machine's name for the folders that bear its mark, and note when they were last in use.
--
-- Needs: clock
--
-- ARGV[1]  key prefix
-- ARGV[2]  the machine's name
-- ARGV[3]  the mark in its file; '' takes the name whoever holds it
-- ARGV[4]  the mark that the file will have next, or ''
-- ARGV[5]  name of the host, for people
-- Returns  1, or 0 if other folders hold the name
local prefix, name, mark, next_mark, host = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local KEPT = 2678400  -- seconds: 31 days
local key = prefix .. 'machine:' .. name
local _, now = read_clock(prefix)  -- for people
local held, held_next = unpack(redis.call('HMGET', key, 'mark', 'next'))
-- Both count: a kill may come between the note of the next mark here and its writing into the file.
if held and mark ~= '' and mark ~= held and mark ~= held_next then return 0 end
redis.call('HSET', key, 'mark', mark ~= '' and mark or next_mark, 'host', host, 'seen_at', now)
if next_mark ~= '' then redis.call('HSET', key, 'next', next_mark) end
redis.call('EXPIRE', key, KEPT)
redis.call('SADD', prefix .. 'machines', name)
return 1
