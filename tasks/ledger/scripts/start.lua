-- Start a step of one job, or of all jobs of its patient that wait for it.
--
-- ARGV[1]  key prefix
-- ARGV[2]  job id
-- ARGV[3]  step
-- ARGV[4]  lease in ms
-- ARGV[5]  '1' to start the patient's other waiting jobs too, or ''
-- ARGV[6]  the caller's machine: no job that only another machine can work on is started. '' starts any job
-- Returns  a list of {job id, fencing token, row as a flat list, the ledger's time, Redis's time};
--          {{'refused', why}} if the job itself is 'gone', 'moved', 'leased' or 'elsewhere'
local prefix, id, step, lease, with_others = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local machine = ARGV[6]
local now, wall = read_clock(prefix)

local function why_not(job)
  local row = redis.call('HMGET', prefix .. 'job:' .. job, 'step', 'lease_until', 'home')
  if not row[1] then return 'gone' end
  if row[1] ~= step then return 'moved' end
  if row[2] and tonumber(row[2]) > now then return 'leased' end
  if row[3] and machine ~= '' and row[3] ~= machine then return 'elsewhere' end
  return nil
end

local function start(job)
  local row = prefix .. 'job:' .. job
  -- The token is taken from Redis's clock, so that none is given twice. A counter would begin again in a Redis that was
  -- wiped or lost its last second, and a worker from before would hold the job together with its successor.
  local last = tonumber(redis.call('HGET', row, 'token') or '0')
  local time = redis.call('TIME')
  local token = string.format('%.0f', math.max(time[1] * 1000000 + time[2], last + 1))
  redis.call('HSET', row, 'token', token)
  -- Starts of these steps are tries at the document. A confirmation or a closing is not one.
  if step ~= 'confirm' and step ~= 'notify' then redis.call('HINCRBY', row, 'tried_' .. step, 1) end
  redis.call('HSET', row, 'lease_until', now + lease, 'next_at', now + lease)
  redis.call('HDEL', row, 'sent_at')
  local lane, home = unpack(redis.call('HMGET', row, 'lane', 'home'))
  -- The due entry of a job that only one machine can work on is in a list of that machine.
  redis.call('ZADD', prefix .. 'due:' .. lane .. (home and '@' .. home or ''), now + lease, job)
  return {job, token, redis.call('HGETALL', row), now, wall}
end

local refusal = why_not(id)
if refusal then return {{'refused', refusal}} end
local started = {start(id)}
-- One slot, however many jobs are started with it: they share one step.
redis.call('ZADD', prefix .. 'flying:' .. redis.call('HGET', prefix .. 'job:' .. id, 'lane'), now + lease, id)
if with_others and redis.call('HGET', prefix .. 'job:' .. id, 'together') ~= '0' then
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
