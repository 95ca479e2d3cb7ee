-- Start a step of one job, or of all jobs of its patient that wait for it.
--
-- Needs: clock, due, lease, pairs, sealed
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
--          mark: that of the run of Redis (`see_run.lua`); '' for a step that commits nothing, or if there is none
--          validations: how long the account's last ones took, as `move.lua` keeps them; '' for presign, or if there are none
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

local function read(job)
  return to_table(redis.call('HGETALL', prefix .. 'job:' .. job))
end

-- Starts of these steps are tries at the document. A confirmation or a closing is not one, and commits nothing.
local TRY = step ~= 'confirm' and step ~= 'notify'
local TRIED = 'tried_' .. step

-- takes_slot  false for the patient's other jobs: they share the first one's step, and its slot
local function start(job, row, takes_slot)
  -- The token is taken from Redis's clock, so that none is given twice. A counter would begin again in a Redis that was
  -- wiped or lost its last second, and a worker from before would hold the job together with its successor.
  local token = string.format('%.0f', math.max(microseconds, tonumber(row.token or '0') + 1))
  -- With the message that is on its way the due entry and the slot were given the time of a lease.
  local sent = row.sent_at and row.sent_at ~= '0'
  local ends, listed = lease_end(now, lease, sent and row.next_at)
  local fields = {token = token, lease_until = ends, next_at = ends, sent_at = 0}
  if TRY then fields[TRIED] = tonumber(row[TRIED] or '0') + 1 end
  redis.call('HSET', prefix .. 'job:' .. job, unpack(to_list(fields)))
  if not listed then
    redis.call('ZADD', due_key(prefix, row.lane, row.home), ends, job)
    if takes_slot then redis.call('ZADD', prefix .. 'flying:' .. row.lane, ends, job) end
  end
  for field, value in pairs(fields) do row[field] = value end
  return {job, token, to_list(add_sealed(prefix, job, row)), now, wall}
end

local own = read(id)
local refusal = why_not(id, own)
if refusal then return {'refused', refusal} end
-- Read before anything is written: an error leaves the job as it is.
local owners, mark = '', TRY and redis.call('HGET', prefix .. 'run', 'mark') or ''
if step ~= 'notify' and (own.scope or own.patient) == own.patient then  -- rows of an earlier version have no scope
  owners = redis.call('HGETALL', prefix .. 'claims:' .. own.patient)
end
-- Nothing is put off by them before the move that presigns, which tells them again.
local validations = step ~= 'presign' and redis.call('HGET', prefix .. 'account:' .. own.account, 'validations') or ''
-- One slot, however many jobs are started with it: they share one step.
local started = {start(id, own, true)}
if with_others and own.together ~= '0' then
  for _, other in ipairs(redis.call('SMEMBERS', prefix .. 'waiting:' .. own.patient)) do
    if other ~= id then
      local row = read(other)
      local reason = why_not(other, row)
      if reason == 'gone' then redis.call('SREM', prefix .. 'waiting:' .. own.patient, other) end
      if not reason then started[#started + 1] = start(other, row, false) end
    end
  end
end
return {started, owners, mark, validations}
