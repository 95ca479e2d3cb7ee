-- Start a step of one job, or of all jobs of its patient that wait for it.
--
-- Needs: clock, due, sealed
--
-- ARGV[1]  key prefix
-- ARGV[2]  job id
-- ARGV[3]  step
-- ARGV[4]  lease in ms
-- ARGV[5]  '1' to start the patient's other waiting jobs too, or ''
-- ARGV[6]  the caller's machine: no job that only another machine can work on is started. '' starts any job
-- Returns  {jobs, owners, mark, validations}; {'refused', why} if the job itself is 'gone', 'moved', 'leased' or 'elsewhere'
--          jobs: a list of {job id, fencing token, row as a flat list, the ledger's time, Redis's time}
--          owners: the records that prove a job of the same patient already, and those jobs, as a flat list; '' where the
--          owners are kept for the whole account, and may be many
--          mark: that of the run of Redis (`see_run.lua`), or ''
--          validations: how long the account's last ones took, as `move.lua` keeps them, or ''
local prefix, id, step, lease, with_others = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local machine = ARGV[6]
local now, wall, microseconds = read_clock(prefix)

local function why_not(job, row)
  if not row.step then return 'gone' end
  if row.step ~= step then return 'moved' end
  if row.lease_until and tonumber(row.lease_until) > now then return 'leased' end
  if row.home and machine ~= '' and row.home ~= machine then return 'elsewhere' end
  return nil
end

local TRIED = 'tried_' .. step
local READ = {'step', 'lease_until', 'home', 'token', 'lane', 'together', 'patient', 'scope', 'account', 'sent_at', TRIED}
local function read(job)
  local row = {}
  for i, value in ipairs(redis.call('HMGET', prefix .. 'job:' .. job, unpack(READ))) do row[READ[i]] = value or nil end
  return row
end

local function start(job, was)
  local row = prefix .. 'job:' .. job
  -- The token is taken from Redis's clock, so that none is given twice. A counter would begin again in a Redis that was
  -- wiped or lost its last second, and a worker from before would hold the job together with its successor.
  local token = string.format('%.0f', math.max(microseconds, tonumber(was.token or '0') + 1))
  local fields = {'token', token, 'lease_until', now + lease, 'next_at', now + lease}
  -- Starts of these steps are tries at the document. A confirmation or a closing is not one.
  if step ~= 'confirm' and step ~= 'notify' then
    fields[#fields + 1] = TRIED
    fields[#fields + 1] = tonumber(was[TRIED] or '0') + 1
  end
  redis.call('HSET', row, unpack(fields))
  if was.sent_at then redis.call('HDEL', row, 'sent_at') end
  redis.call('ZADD', due_key(prefix, was.lane, was.home), now + lease, job)
  return {job, token, add_sealed(prefix, job, redis.call('HGETALL', row)), now, wall}
end

local own = read(id)
local refusal = why_not(id, own)
if refusal then return {'refused', refusal} end
-- Read before anything is written: an error leaves the job as it is.
local owners, mark = '', redis.call('HGET', prefix .. 'run', 'mark') or ''
if step ~= 'notify' and (own.scope or own.patient) == own.patient then  -- rows of an earlier version have no scope
  owners = redis.call('HGETALL', prefix .. 'claims:' .. own.patient)
end
local validations = redis.call('HGET', prefix .. 'account:' .. own.account, 'validations') or ''
local started = {start(id, own)}
-- One slot, however many jobs are started with it: they share one step.
redis.call('ZADD', prefix .. 'flying:' .. own.lane, now + lease, id)
if with_others and own.together ~= '0' then
  for _, other in ipairs(redis.call('SMEMBERS', prefix .. 'waiting:' .. own.patient)) do
    if other ~= id then
      local row = read(other)
      local reason = why_not(other, row)
      if reason == 'gone' then redis.call('SREM', prefix .. 'waiting:' .. own.patient, other) end
      if not reason then started[#started + 1] = start(other, row) end
    end
  end
end
return {started, owners, mark, validations}
