-- Take due jobs, lanes in turn, until as many are in flight as the window allows, and send a Celery message for each.
--
-- Needs: clock, due
--
-- The message goes in the same script in which the job's due entry moves: neither is ever seen without the other.
--
-- ARGV[1]  key prefix
-- ARGV[2]  lease in ms
-- ARGV[3]  window: how many jobs may be in flight over all lanes
-- ARGV[4]  key of the Celery queue in which messages of steps wait
-- ARGV[5]  lanes, a JSON list of {lane, slots, has_breaker, group, unsure}: the lane's name, how many of its jobs may be
--          in flight, whether a circuit breaker and a rate limit stop it, the limit group, and whether it never counts as
--          one that answers
-- ARGV[6]  the caller's machine, or ''; jobs that only another machine can work on are not taken
-- ARGV[7]  key of the Celery queue of that machine
-- ARGV[8]  slots of the workers on that machine
-- ARGV[9]  the caller's boot and ARGV[10] the ms since then, for the ledger's clock
-- ARGV[11] how many jobs of lanes that do not answer may be in flight, all lanes together; -1: any number
-- ARGV[12] the same for taking one that only this machine can work on
-- Returns  {jobs, faults, probes, wait}. jobs: a flat list id, step, lane, machine, id, step, lane, machine, ... of the jobs that
--          were sent; machine is '' for jobs that any machine can work on.
--          faults: a flat list lane, job or '', code, lane, job or '', code, ... of the lanes, or single jobs, that were
--          skipped because a command on one of their keys failed, with how Redis's error began
--          probes: the accounts that are parked or down and whose next probe is due
--          wait: in how many ms the next job is due of a lane that has a slot for it; -1 if none is soon
local prefix, lease, window, queue = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local lanes = cjson.decode(ARGV[5])
local machine, machine_queue, machine_slots = ARGV[6], ARGV[7], tonumber(ARGV[8])
local now = read_clock(prefix, ARGV[9], tonumber(ARGV[10]))
local unsure_window, unsure_window_here = tonumber(ARGV[11] or -1), tonumber(ARGV[12] or -1)
if unsure_window < 0 then unsure_window = math.huge end
if unsure_window_here < 0 then unsure_window_here = math.huge end
local ANSWER_COUNTS = 600000  -- ms: an account that has answered within this time counts as one that answers
-- Of work that any machine can do, and of work for this machine alone, if there is any.
local waiting = {[''] = redis.call('LLEN', queue)}
-- Messages that wait for this machine alone must not fill the window: the other machines would have nothing to do.
local room = 0
local own_lists = {}
for i, lane in ipairs(lanes) do own_lists[i] = due_key(prefix, lane.lane, machine) end
for i = 1, machine ~= '' and #own_lists or 0, 1000 do  -- Lua passes a few thousand arguments at most
  if not waiting[machine] and redis.call('EXISTS', unpack(own_lists, i, math.min(i + 999, #own_lists))) > 0 then
    waiting[machine] = redis.call('LLEN', machine_queue)
    room = machine_slots - waiting[machine]
  end
end

-- --- a key of one lane that is not what it should be stops that lane, and no other ---

local OUTAGES = {OOM = true, READONLY = true, MISCONF = true, NOREPLICAS = true, MASTERDOWN = true}
local faults, probes = {}, {}
local in_flight, unsure_in_flight = 0, 0
local next_at = math.huge
local postponed = {}  -- jobs that were due when their lane was read, and are not any more
local turn, messages = redis.call('INCR', prefix .. 'turn'), 0

local function skip(lane, job, failure)
  local text = type(failure) == 'table' and failure.err or tostring(failure)
  local code = string.match(text, '^%-?(%u+)') or 'ERR'
  if OUTAGES[code] then error(failure, 0) end
  faults[#faults + 1] = lane.lane
  faults[#faults + 1] = job
  faults[#faults + 1] = code
end

-- --- what is sent ---

-- What is sent is written for all jobs together. What can fail, as a key of another type, has been read by then.
local queued = {}  -- queue -> messages

-- The due entry moves to the end of a lease: if the message is lost, the job is due again then.
local function take_slot(lane, home, id)
  local entries = lane.sent[home] or {}
  entries[#entries + 1] = now + lease
  entries[#entries + 1] = id
  lane.sent[home] = entries
end

local function write_slots(lane)
  for home, entries in pairs(lane.sent) do
    redis.call('ZADD', due_key(prefix, lane.lane, home), unpack(entries))
    redis.call('ZADD', prefix .. 'flying:' .. lane.lane, unpack(entries))
  end
  lane.sent = {}
end

-- --- lanes ---

-- Jobs that are due, as many as the lane has slots free: those of any machine and those of this one, each list in the
-- order in which they became due. What follows on them in the list will be due next.
local function read_due(lane)
  local function read(home, most)
    if most <= 0 then return {at = 1, count = 0, perhaps_more = false} end
    local entries = redis.call('ZRANGE', due_key(prefix, lane.lane, home), 0, most - 1, 'WITHSCORES')
    local count = #entries / 2
    for i = 1, count do
      local due_at = tonumber(entries[2 * i])
      if due_at > now then
        next_at, count = math.min(next_at, due_at), i - 1
        break
      end
    end
    return {entries = entries, at = 1, count = count, perhaps_more = count == most}
  end
  local most = math.min(lane.free, window - in_flight)
  lane.any, lane.own = read('', most), read(machine, math.min(most, room))
end

-- The first that is left of such a list, and since when it is due.
local function first_of(list)
  if list.at > list.count then return nil, math.huge end
  return list.entries[2 * list.at - 1], tonumber(list.entries[2 * list.at])
end

-- The job that has been due longest, and the machine that alone can work on it, or ''.
local function next_due(lane)
  local used_up = lane.any and not first_of(lane.any) and not first_of(lane.own)
  -- Whatever was read before is due no more: it was taken, postponed or removed.
  if not lane.any or (used_up and (lane.any.perhaps_more or lane.own.perhaps_more)) then
    write_slots(lane)
    read_due(lane)
  end
  local any, any_at = first_of(lane.any)
  local own, own_at = nil, math.huge
  if room > 0 then own, own_at = first_of(lane.own) end
  if own and (not any or own_at < any_at) then
    lane.own.at = lane.own.at + 1
    return own, machine
  end
  lane.any.at = lane.any.at + 1
  return any, ''
end

-- How many jobs of lanes that do not answer may be in flight, for taking one of this lane. A sixth is for lanes that have
-- none in flight and have not been slow since they answered: such a lane may be a new account, which must be able to
-- show that it answers.
local function most_unsure(lane, most)
  if most == math.huge or (lane.taken == 0 and lane.has_breaker and not lane.slow) then return most end
  return most - math.floor(most / 6)
end

local shut = {}  -- limit group -> whether its gate is shut; many accounts may be of one group

local function stopped(lane, state)
  if state == 'parked' or state == 'down' then return true end
  if shut[lane.group] == nil then
    local gate = prefix .. 'gate:' .. lane.group
    local shut_until = tonumber(redis.call('GET', gate) or 0)
    shut[lane.group] = shut_until > now
    -- Its time is over. It does not expire: Redis's clock may be set meanwhile (`throttle.lua`).
    if shut_until > 0 and shut_until <= now then redis.call('DEL', gate) end
  end
  return shut[lane.group]
end

-- Sets how many slots a lane has free, and whether it answers: its last steps ended well within their time.
local function count_slots(lane)
  -- A slot whose lease ran out is free: its worker died, or its message was lost. It is removed now and then.
  local slots = prefix .. 'flying:' .. lane.lane
  if turn % 16 == 0 then redis.call('ZREMRANGEBYSCORE', slots, '-inf', now) end
  local taken_slots = redis.call('ZCOUNT', slots, string.format('(%.0f', now), '+inf')
  lane.taken = taken_slots
  lane.free = lane.slots - taken_slots
  if not lane.has_breaker then return end
  local state, trial, answered_at, slow_at, probe_at = unpack(redis.call(
    'HMGET', prefix .. 'account:' .. lane.lane, 'state', 'trial', 'answered_at', 'slow_at', 'probe_at'))
  lane.unsure = not answered_at or now - answered_at > ANSWER_COUNTS or (slow_at and now - slow_at < lease)
  -- It has been tried, and has not answered in time since: it is no new account.
  lane.slow = slow_at and now - slow_at < ANSWER_COUNTS and tonumber(slow_at) > tonumber(answered_at or 0)
  if stopped(lane, state) then lane.free = 0 end
  local unwell = state == 'parked' or state == 'down'
  if unwell and (tonumber(probe_at) or 0) <= now then probes[#probes + 1] = lane.lane end
  -- Half-open: one document shows whether the account works.
  if trial then lane.free = math.min(lane.free, 1 - taken_slots) end
end

-- A message of Celery's protocol 2 with the job's id and nothing else, as kombu's Redis transport keeps one:
-- https://docs.celeryq.dev/en/stable/internals/protocol.html
local function message(id, step, in_queue)
  messages = messages + 1
  local hex = redis.sha1hex(table.concat({id, step, now, turn, messages}, ' '))
  local task_id = string.format('%s-%s-4%s-8%s-%s', string.sub(hex, 1, 8), string.sub(hex, 9, 12), string.sub(hex, 13, 15),
    string.sub(hex, 16, 18), string.sub(hex, 19, 30))
  return cjson.encode({
    body = cjson.encode({{id}, {}, {}}),  -- an empty table becomes an object: no keyword arguments, nothing embedded
    ['content-type'] = 'application/json',
    ['content-encoding'] = 'utf-8',
    headers = {lang = 'py', task = 'chartpost.' .. step, id = task_id, root_id = task_id},
    properties = {
      correlation_id = task_id,
      delivery_tag = task_id,
      delivery_info = {exchange = '', routing_key = in_queue},
      priority = 0,
    },
  })
end

-- One message confirms all of a patient's waiting documents, so their due entries move with the first one's. Otherwise
-- each would send a message that finds nothing left to do.
local function postpone_others_of_patient(lane, home, id, patient)
  for _, other in ipairs(redis.call('SMEMBERS', prefix .. 'waiting:' .. patient)) do
    if other ~= id then
      -- Only those of the same list: a step starts no job of another machine.
      local at = redis.call('ZSCORE', due_key(prefix, lane, home), other)
      if at and tonumber(at) <= now then
        redis.call('ZADD', due_key(prefix, lane, home), now + lease, other)
        postponed[other] = true
      end
    end
  end
end

for _, lane in ipairs(lanes) do
  lane.sent = {}  -- machine -> due entries of what was sent
  local counted, failure = pcall(count_slots, lane)
  if not counted then
    lane.free, lane.taken = 0, lane.taken or 0
    skip(lane, '', failure)
  end
  in_flight = in_flight + lane.taken
  if lane.unsure then unsure_in_flight = unsure_in_flight + lane.taken end
end

local taken = {}

-- Take the lane's next due job. False if it has none that may be sent now.
local function take_next(lane)
  local id, home = next_due(lane)
  if not id then return false end
  if postponed[id] then return true end
  if lane.unsure and home ~= '' and unsure_in_flight >= most_unsure(lane, unsure_window_here) then return false end
  local fields = redis.pcall('HMGET', prefix .. 'job:' .. id, 'step', 'sent_at', 'patient', 'together')
  if fields.err then
    skip(lane, id, fields)
    redis.call('ZADD', due_key(prefix, lane.lane, home), now + lease, id)  -- the lane's other jobs go on
    return true
  end
  local step, sent_at, patient, together = unpack(fields)
  if not step or step == '' then
    redis.call('ZREM', due_key(prefix, lane.lane, home), id)  -- the row is gone, or has no work left
    return true
  end
  lane.free = lane.free - 1
  lane.taken = lane.taken + 1
  in_flight = in_flight + 1
  if lane.unsure then unsure_in_flight = unsure_in_flight + 1 end
  take_slot(lane, home, id)
  -- A message that was sent and not started may still wait in the queue. It gets up to five leases while the
  -- queue has messages at all: another one would only make the queue longer.
  local still_queued = sent_at and waiting[home] > 0 and now - tonumber(sent_at) < 5 * lease
  if still_queued then return true end
  local in_queue = home ~= '' and machine_queue or queue
  queued[in_queue] = queued[in_queue] or {}
  table.insert(queued[in_queue], message(id, step, in_queue))
  redis.call('HSET', prefix .. 'job:' .. id, 'sent_at', now, 'next_at', now + lease)
  local list = home == '' and lane.any or lane.own
  local others_due = list.at <= list.count or list.perhaps_more
  if step == 'confirm' and together ~= '0' and others_due then
    local done, failure = pcall(postpone_others_of_patient, lane.lane, home, id, patient)
    if not done then skip(lane, id, failure) end
  end
  if home ~= '' then room = room - 1 end
  for _, part in ipairs({id, step, lane.lane, home}) do taken[#taken + 1] = part end
  return true
end

-- Each call begins with another lane. Without that, the first one would get every slot that becomes free.
local first = #lanes > 0 and turn % #lanes or 0
local more = true
while more and in_flight < window do
  more = false
  for i = 1, #lanes do
    local lane = lanes[(first + i - 1) % #lanes + 1]
    -- Slots are kept for lanes that answer: those that do not cannot take them all, however many they are.
    local may = lane.free > 0 and in_flight < window and (not lane.unsure or unsure_in_flight < most_unsure(lane, unsure_window))
    if may then
      local done, found = pcall(take_next, lane)
      if not done then
        lane.free = 0
        skip(lane, '', found)
      elseif found then
        more = true
      else
        lane.free = 0
      end
    end
  end
end
for _, lane in ipairs(lanes) do write_slots(lane) end
for in_queue, waiting_there in pairs(queued) do redis.call('LPUSH', in_queue, unpack(waiting_there)) end
return {taken, faults, probes, next_at < math.huge and math.ceil(next_at - now) or -1}
