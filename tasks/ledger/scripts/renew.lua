-- Renew leases. ARGV: prefix, lease ms, then id, token, ... Returns 1 or 0 for each: 0 is a lease lost.
local prefix, lease = ARGV[1], tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local kept = {}
for i = 3, #ARGV, 2 do
  local id, row = ARGV[i], prefix .. 'job:' .. ARGV[i]
  local held = redis.call('HMGET', row, 'token', 'lane', 'lease_until')
  if held[1] == ARGV[i + 1] and tonumber(held[3] or '0') > 0 then
    redis.call('HSET', row, 'lease_until', now + lease, 'next_at', now + lease)
    redis.call('ZADD', prefix .. 'due:' .. held[2], now + lease, id)
    redis.call('ZADD', prefix .. 'flying:' .. held[2], 'XX', now + lease, id)
    kept[#kept + 1] = 1
  else
    kept[#kept + 1] = 0
  end
end
return kept
