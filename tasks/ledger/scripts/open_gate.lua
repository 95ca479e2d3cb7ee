-- Open the gate of a limit group, and make due what its accounts have waiting.
--
-- Needs: clock
--
-- ARGV[1]  key prefix
-- ARGV[2]  limit group
-- ARGV[3]  '1' to forget the requests of the last minute too, or ''
-- ARGV[4…] the lanes of the group's accounts
-- Returns  until when the gate was shut, in ms by Redis's clock; 0 if it was open
local prefix, group, forget_calls = ARGV[1], ARGV[2], ARGV[3] == '1'
local now, wall = read_clock(prefix)
local shut_until = tonumber(redis.call('GET', prefix .. 'gate:' .. group) or 0)
redis.call('DEL', prefix .. 'gate:' .. group, prefix .. 'gate-reason:' .. group)
if forget_calls then redis.call('DEL', prefix .. 'calls-of:' .. group, prefix .. 'calls-of:' .. group .. ':pages') end
if shut_until <= now then return 0 end

-- Those that were told to wait have due entries as far ahead as the gate.
local function make_due(due, in_flight)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, '(' .. now, '+inf')) do
    if not redis.call('ZSCORE', in_flight, id) then redis.call('ZADD', due, now, id) end
  end
end

local machines = redis.call('SMEMBERS', prefix .. 'machines')
for i = 4, #ARGV do
  local due, in_flight = prefix .. 'due:' .. ARGV[i], prefix .. 'flying:' .. ARGV[i]
  make_due(due, in_flight)
  for _, machine in ipairs(machines) do make_due(due .. '@' .. machine, in_flight) end
end
return shut_until - now + wall
