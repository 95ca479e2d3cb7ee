-- Shut the gate of a limit group for a while: `take_due.lua` sends no jobs of the group. A gate that is shut for longer
-- stays so.
--
-- Needs: clock
--
-- ARGV[1]  key prefix
-- ARGV[2]  limit group
-- ARGV[3]  for how long, in ms
-- ARGV[4]  why, a sentence for people; '' if the limit is used up
local reason = ARGV[1] .. 'gate-reason:' .. ARGV[2]
local gate, shut_until = ARGV[1] .. 'gate:' .. ARGV[2], read_clock(ARGV[1]) + tonumber(ARGV[3])
if shut_until > tonumber(redis.call('GET', gate) or 0) then
  redis.call('SET', gate, string.format('%.0f', shut_until))  -- not to expire: Redis's clock may be set meanwhile
  if ARGV[4] ~= '' then redis.call('SET', reason, ARGV[4]) else redis.call('DEL', reason) end
end
