-- Move a job, if it is still where the caller has read it and the caller still holds it.
--
-- ARGV[1]  key prefix
-- ARGV[2]  job id
-- ARGV[3]  fencing token of the caller's lease, or '' for a move that takes the job from its holder
-- ARGV[4]  the stages in which the move is allowed, comma-separated
-- ARGV[5]  the change, a JSON object with any of
--            stage, step, lane  their new values
--            due_in             ms from now until the job is due again; -1: no work is left
--            expire_days        with due_in -1: when the row leaves
--            in_flight          true: the next message is sent with this move, so the slot stays taken
--            keep               true: the caller keeps its lease, which is neither released nor renewed
--            set, unset, incr   fields of the row: values, names, numbers to add
--            unknown            true: the outcome is unknown from now on, unless it was already
--            stamp              a stage that is passed on the way, with this move
--            uncommitted        true: only while the commit point has not been passed
--            own_record         a record id that this job must own alone, within its scope (patient or account)
--            healthy            true: the provider answered as it should
--            release            true: give the name back, and wake the job that waits for it
--            event              an entry of the events stream, a flat list: written with the move, so exactly once
--            delivery           {key, SHA-256}: where delivered documents are found again
--            commits            true: this is a commit, which gets the next number
-- Returns  'ok' (after a commit 'ok' and its number), or why nothing was changed: 'gone', 'fenced', 'moved', 'committed', 'owned_by_another'
local prefix, id, token, stages = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local change = cjson.decode(ARGV[5])
local OWNERS_KEPT = 2678400  -- seconds: 31 days
local DELIVERIES_KEPT = 2592000  -- seconds: 30 days, as the public contract has it
local EVENTS_KEPT = 10000
local now, wall = read_clock(prefix)
local row = prefix .. 'job:' .. id

-- Due entries of a job that only one machine can work on are in a list of that machine.
local function due_key(lane, home)
  return prefix .. 'due:' .. lane .. (home and '@' .. home or '')
end

local stage, current_token, lane, account, patient, name, committed, sent_before, scope, home = unpack(redis.call(
  'HMGET', row, 'stage', 'token', 'lane', 'account', 'patient', 'name', 'committed', 'sent_before', 'scope', 'home'))

-- --- may it move? Nothing is written before the last of these checks ---

if not stage then return 'gone' end
if token ~= '' and current_token ~= token then return 'fenced' end
if not string.find(',' .. stages .. ',', ',' .. stage .. ',', 1, true) then return 'moved' end
if change.uncommitted and (committed == '1' or sent_before == '1') then return 'committed' end
if change.own_record then
  local owners = prefix .. 'claims:' .. (scope or patient)  -- rows of an earlier version have no scope
  local owner = redis.call('HGET', owners, change.own_record)
  if owner and owner ~= id then return 'owned_by_another' end
  local since = prefix .. 'claimed-at:' .. (scope or patient)
  redis.call('HSET', owners, change.own_record, id)
  redis.call('ZADD', since, now, change.own_record)
  -- An account's hash is in constant use and never expires, so old entries leave it a few at a time.
  for _, old in ipairs(redis.call('ZRANGEBYSCORE', since, 0, now - OWNERS_KEPT * 1000, 'LIMIT', 0, 16)) do
    redis.call('HDEL', owners, old)
    redis.call('ZREM', since, old)
  end
  redis.call('EXPIRE', owners, OWNERS_KEPT)
  redis.call('EXPIRE', since, OWNERS_KEPT)
end

-- --- the row ---

if token == '' then redis.call('HINCRBY', row, 'token', 1) end  -- fences the worker that holds the job
redis.call('HSET', row, 'updated_at', wall)
if not change.keep then redis.call('HSET', row, 'lease_until', 0) end
if change.step then redis.call('HSET', row, 'step', change.step) end
for field, value in pairs(change.set or {}) do redis.call('HSET', row, field, value) end
for _, field in ipairs(change.unset or {}) do redis.call('HDEL', row, field) end
for field, by in pairs(change.incr or {}) do redis.call('HINCRBY', row, field, by) end
-- After unset, so that a move can begin the time again; only if missing, so that it runs from the first such move.
if change.unknown then redis.call('HSETNX', row, 'unknown_since', now) end
if change.stamp then redis.call('HSET', row, 'at_' .. change.stamp, wall) end

-- --- the account's circuit breaker ---

if change.healthy then
  redis.call('HDEL', prefix .. 'account:' .. account, 'failures')
  -- Half-open becomes closed. An open circuit stays open: this document may have left before it opened.
  if not redis.call('HGET', prefix .. 'account:' .. account, 'state') then
    redis.call('HDEL', prefix .. 'account:' .. account, 'trial', 'interval')
  end
end

-- --- the stage, and the lists of open and finished jobs ---

if change.stage and change.stage ~= stage then
  redis.call('HSET', row, 'stage', change.stage, 'at_' .. change.stage, wall, 'since_' .. change.stage, now)
  -- How long the account had been parked or down by now: that time is subtracted from what the job waits in the stage.
  redis.call('HSET', row, 'sick_before', redis.call('HGET', prefix .. 'account:' .. account, 'sick_ms') or '0')
  if change.stage == 'stored' or change.stage == 'registered' or change.stage == 'delivered' then
    redis.call('HSET', prefix .. 'account:' .. account, 'progress_at', now)
  end
  local final = change.stage == 'delivered' or change.stage == 'failed' or change.stage == 'cancelled'
  if final then
    redis.call('ZREM', prefix .. 'open:' .. account, id)
    redis.call('ZADD', prefix .. 'finished', wall, id)
  else
    redis.call('ZREM', prefix .. 'finished', id)
    redis.call('ZADD', prefix .. 'open:' .. account, redis.call('HGET', row, 'created_at'), id)
    redis.call('PERSIST', row)  -- it was to leave after the retention time
  end
end

if change.delivery then
  local deliveries = prefix .. 'sent:' .. change.delivery[1]
  redis.call('HSET', deliveries, change.delivery[2], id)
  redis.call('EXPIRE', deliveries, DELIVERIES_KEPT)
end

if change.event then
  redis.call('XADD', prefix .. 'events', 'MAXLEN', '~', EVENTS_KEPT, '*', unpack(change.event))
end

-- The patient's jobs that wait for a confirmation: one search serves them all.
local step = redis.call('HGET', row, 'step')
if step == 'confirm' then
  redis.call('SADD', prefix .. 'waiting:' .. patient, id)
else
  redis.call('SREM', prefix .. 'waiting:' .. patient, id)
end

-- --- the lane, the due entry and the slot ---

local due_before = due_key(lane, home)
if change.lane and change.lane ~= lane then
  redis.call('ZREM', prefix .. 'flying:' .. lane, id)
  redis.call('HSET', row, 'lane', change.lane)
  lane = change.lane
end
-- After `set`: a document that is taken up again may lie on another machine by now.
local due = due_key(lane, redis.call('HGET', row, 'home'))
if due ~= due_before then redis.call('ZREM', due_before, id) end
if change.due_in then
  if change.due_in < 0 then
    redis.call('ZREM', due, id)
    redis.call('HDEL', row, 'next_at')
    redis.call('EXPIRE', row, math.floor(change.expire_days * 86400))
  else
    redis.call('ZADD', due, now + change.due_in, id)
    redis.call('HSET', row, 'next_at', now + change.due_in)
  end
  if change.in_flight then
    redis.call('ZADD', prefix .. 'flying:' .. lane, now + change.due_in, id)
    redis.call('HSET', row, 'sent_at', now)  -- when its Celery message went, which wakes a worker
  else
    redis.call('ZREM', prefix .. 'flying:' .. lane, id)
    redis.call('HDEL', row, 'sent_at')
  end
end

-- --- the name ---

if change.release and name and redis.call('GET', prefix .. 'name:' .. name) == id then
  redis.call('DEL', prefix .. 'name:' .. name)
  local next_id = redis.call('ZPOPMIN', prefix .. 'name-queue:' .. name)[1]
  if next_id then
    local its_lane, its_step, its_home =
      unpack(redis.call('HMGET', prefix .. 'job:' .. next_id, 'lane', 'step', 'home'))
    -- A job that was cancelled or has gone on meanwhile is not woken. XX: one that has no due entry gets none.
    if its_step == 'presign' or its_step == 'post' or its_step == 'register' then
      redis.call('ZADD', due_key(its_lane, its_home), 'XX', now, next_id)
    end
  end
end
if change.commits then return 'ok ' .. redis.call('INCR', prefix .. 'commits') end
return 'ok'
