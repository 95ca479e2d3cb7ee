-- Move a job, if it is still where the caller has read it and the caller still holds it.
--
-- Needs: clock, due, lease, pairs, sealed, owners, account, stages, names, outcome
--
-- ARGV[1]  key prefix
-- ARGV[2]  job id
-- ARGV[3]  fencing token of the caller's lease, or '' for a move that takes the job from its holder
-- ARGV[4]  the stages in which the move is allowed, comma-separated
-- ARGV[5]  the change: a JSON object with any of the attributes of `moves.Move` under their names. What stays as it is, is
--          left out. Their meaning stands there; these are written otherwise:
--            due_in_ms          ms from now until the job is due again
--            kept_days          with no_work_left: after how many days the row leaves
--            fields             as values of the row; what was sealed for it is among them
--            owns               a record's id
--            validation         '<from>-<until>' in ms
--            event              a flat list
--            delivered_sha256   {key, SHA-256}: where delivered documents are found again
--            shows              {key, text, seconds}
--            shows_outcome      {key_head, text_head, text_tail, seconds, called}
--          and one is no attribute of a move:
--            goes_on            the step with which the caller goes on at once: its lease is renewed, its slot stays
--                               taken, and the start of that step is counted as `start.lua` counts one
-- ARGV[6]  the ledger's time and Redis's as the caller was told them with its lease (`parts/clock.lua`), or ''
-- Returns  'ok'; after a commit 'ok' and its number; with goes_on {the row as a flat list, the ledger's time, Redis's
--          time, how long the account's last validations took, or ''}; or why nothing was changed: 'gone', 'fenced', 'moved', 'committed', 'another_run',
--          'owned_by_another'
local prefix, id, token, stages = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local change = cjson.decode(ARGV[5])
local DELIVERIES_KEPT = 2592000  -- seconds: 30 days, as the public contract has it
local EVENTS_KEPT = 10000
local PROGRESS = {stored = true, registered = true, delivered = true}
local now, wall = read_clock(prefix, nil, nil, ARGV[6])
local row = prefix .. 'job:' .. id

local was = to_table(redis.call('HGETALL', row))

-- --- may it move? Nothing is written before the last of these checks ---

if not was.stage then return 'gone' end
if token ~= '' and was.token ~= token then return 'fenced' end
if not string.find(',' .. stages .. ',', ',' .. was.stage .. ',', 1, true) then return 'moved' end
if change.only_uncommitted and (was.committed == '1' or was.sent_before == '1') then return 'committed' end
if change.in_run and redis.call('HGET', prefix .. 'run', 'mark') ~= change.in_run then return 'another_run' end
if change.owns then
  local scope = was.scope or was.patient  -- rows of an earlier version have no scope
  if not own_record(prefix, scope, change.owns, id, now) then return 'owned_by_another' end
end

-- Before the row: if this stream has become another type, nothing else changes, and the move is tried again. Behind the row
-- a later error must not lead to a second event.
if change.event then
  redis.call('XADD', prefix .. 'events', 'MAXLEN', '~', EVENTS_KEPT, '*', unpack(change.event))
end

-- --- the row: one HSET and one HDEL ---

local fields, dropped = {}, {}
local function drop(field)
  fields[field], dropped[field] = nil, true
end
local function set(field, value)
  fields[field], dropped[field] = value, nil
end
local function add(field, by)
  set(field, string.format('%.0f', tonumber(was[field] or '0') + by))
end

local reaches = change.stage and change.stage ~= was.stage
local lane = change.lane or was.lane
local account = (change.provider_answered or reaches or change.validation) and read_account(prefix, was.account)

for field, value in pairs(change.fields or {}) do set(field, value) end
for _, field in ipairs(change.clears or {}) do drop(field) end
local home = was.home
if dropped.home then home = nil end
home = fields.home or home  -- a document that is taken up again may lie on another machine by now
local due_before, due = due_key(prefix, was.lane, was.home), due_key(prefix, lane, home)
local due_at, listed = change.due_in_ms and now + change.due_in_ms, false
if change.goes_on then due_at, listed = lease_end(now, change.due_in_ms, due == due_before and was.lease_until) end

if change.unknown_from_now and (dropped.unknown_since or not was.unknown_since) then set('unknown_since', now) end
set('updated_at', wall)
if change.step then set('step', change.step) end
if change.lane then set('lane', change.lane) end
if change.passed then set('at_' .. change.passed, wall) end
if reaches then
  set('stage', change.stage)
  set('at_' .. change.stage, wall)
  set('since_' .. change.stage, now)
  -- How long the account had been parked or down by now: that time is subtracted from what the job waits in the stage.
  set('sick_before', account.sick_ms or '0')
end
if change.goes_on then
  set('lease_until', due_at)
  if change.goes_on ~= 'confirm' and change.goes_on ~= 'notify' then add('tried_' .. change.goes_on, 1) end
elseif not change.keeps_lease then
  set('lease_until', 0)
end
-- When its Celery message went; 0 if none is on its way.
if not change.keeps_lease then set('sent_at', change.message_sent and now or 0) end
if change.no_work_left then set('next_at', '') elseif due_at then set('next_at', due_at) end
if token == '' then add('token', 1) end  -- fences the worker that holds the job
for field, by in pairs(change.adds or {}) do add(field, by) end

for _, part in ipairs(SEALED) do
  if fields[part] then
    redis.call('SET', sealed_key(prefix, part, id), fields[part])
    drop(part)  -- from the row of an earlier version
  elseif dropped[part] and may_have(was, part) then
    redis.call('DEL', sealed_key(prefix, part, id))
  end
end

redis.call('HSET', row, unpack(to_list(fields)))
local is, gone = {}, {}  -- the row as it is from now on
for field, value in pairs(was) do
  if dropped[field] then gone[#gone + 1] = field else is[field] = value end
end
for field, value in pairs(fields) do is[field] = value end
if #gone > 0 then redis.call('HDEL', row, unpack(gone)) end

-- --- what else knows of the job ---

if account then
  local progress = reaches and PROGRESS[change.stage]
  note_account(account, now, change.provider_answered, progress, change.validation, was.sick_before)
end
if reaches and list_stage(prefix, id, was.account, was.created_at, was.stage, change.stage, wall) then
  redis.call('PERSIST', row)  -- it was to leave after the retention time
  keep_sealed(prefix, id, is, nil)
end
if change.delivered_sha256 then
  local deliveries = prefix .. 'sent:' .. change.delivered_sha256[1]
  redis.call('HSET', deliveries, change.delivered_sha256[2], id)
  redis.call('EXPIRE', deliveries, DELIVERIES_KEPT)
end

if change.shows then
  redis.call('SET', change.shows[1], change.shows[2], 'EX', change.shows[3])
  redis.call('PUBLISH', change.shows[1], change.shows[2])
end
if change.shows_outcome then
  local outcome, calls = change.shows_outcome, redis.call('SMEMBERS', prefix .. 'aliases:' .. id)
  if outcome.called then calls[#calls + 1] = id end
  for _, call in ipairs(calls) do
    show_outcome(outcome.key_head .. call, outcome.text_head .. call .. outcome.text_tail, outcome.seconds)
  end
end

-- The patient's jobs that wait for a confirmation: one search serves them all.
if is.step == 'confirm' and was.step ~= 'confirm' then
  redis.call('SADD', prefix .. 'waiting:' .. was.patient, id)
elseif is.step ~= 'confirm' and was.step == 'confirm' then
  redis.call('SREM', prefix .. 'waiting:' .. was.patient, id)
end

-- --- the lane, the due entry and the slot ---

if lane ~= was.lane then redis.call('ZREM', prefix .. 'flying:' .. was.lane, id) end
if due ~= due_before then redis.call('ZREM', due_before, id) end
if (due_at or change.no_work_left) and not listed then
  if change.no_work_left then
    redis.call('ZREM', due, id)
    local seconds = math.floor(change.kept_days * 86400)
    redis.call('EXPIRE', row, seconds)
    keep_sealed(prefix, id, is, seconds)
  else
    redis.call('ZADD', due, due_at, id)
  end
  if change.message_sent or change.goes_on then
    redis.call('ZADD', prefix .. 'flying:' .. lane, due_at, id)
  elseif lane == was.lane then
    redis.call('ZREM', prefix .. 'flying:' .. lane, id)
  end
end

if change.frees_name and was.name then free_name(prefix, was.name, id, now) end
if change.goes_on then return {to_list(is), now, wall, account and account.validations or ''} end
if change.is_commit then return 'ok ' .. redis.call('INCR', prefix .. 'commits') end
return 'ok'
