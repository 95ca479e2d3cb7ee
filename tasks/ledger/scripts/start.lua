-- Start a step of one job, or of all jobs of its patient. ARGV: prefix, id, step, lease ms, group ('1' or '').
-- Returns a list of {id, token, row as a flat list, now in ms}; the asked job's refusal as {{'refused', why}}.
local prefix, id, step, lease, group = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function why_not(job)
  local row = redis.call('HMGET', prefix .. 'job:' .. job, 'step', 'lease_until')
  if not row[1] then return 'gone' end
  if row[1] ~= step then return 'moved' end
  if row[2] and tonumber(row[2]) > now then return 'leased' end
  return nil
end

local function start(job)
  local row = prefix .. 'job:' .. job
  -- By the clock, so that none comes twice: a count would begin anew in a Redis that was wiped, or lost its last second,
  -- and a worker from before would hold the job together with its successor.
  local last = tonumber(redis.call('HGET', row, 'token') or '0')
  local token = math.max(clock[1] * 1000000 + clock[2], last + 1)
  redis.call('HSET', row, 'token', string.format('%.0f', token))
  if step ~= 'confirm' and step ~= 'notify' then redis.call('HINCRBY', row, 'tried_' .. step, 1) end
  redis.call('HSET', row, 'lease_until', now + lease, 'next_at', now + lease)
  redis.call('HDEL', row, 'sent_at')
  local lane = redis.call('HGET', row, 'lane')
  redis.call('ZADD', prefix .. 'due:' .. lane, now + lease, job)
  return {job, string.format('%.0f', token), redis.call('HGETALL', row), now}
end

local refusal = why_not(id)
if refusal then return {{'refused', refusal}} end
local started = {start(id)}
redis.call('ZADD', prefix .. 'flying:' .. redis.call('HGET', prefix .. 'job:' .. id, 'lane'), now + lease, id)
if group == '1' and redis.call('HGET', prefix .. 'job:' .. id, 'together') ~= '0' then
  local patient = redis.call('HGET', prefix .. 'job:' .. id, 'patient')
  for _, other in ipairs(redis.call('SMEMBERS', prefix .. 'waiting:' .. patient)) do
    if other ~= id then
      local reason = why_not(other)
      if reason == 'gone' then redis.call('SREM', prefix .. 'waiting:' .. patient, other) end
      if not reason then started[#started + 1] = start(other) end
    end
  end
end
return started
