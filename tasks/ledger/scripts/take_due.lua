-- Take due jobs, lanes in turn, until as many are in flight as the window allows.
--
-- ARGV[1]  key prefix
-- ARGV[2]  lease in ms
-- ARGV[3]  window: how many jobs may be in flight over all lanes
-- ARGV[4]  key of the Celery queue in which messages of steps wait
-- ARGV[5]  lanes, a JSON list of {lane, slots, has_breaker, group}: the lane's name, how many of its jobs may be in
--          flight, whether a circuit breaker and a rate limit stop it, and the limit group
-- ARGV[6]  the caller's machine, or ''; jobs that only another machine can work on are not taken
-- ARGV[7]  key of the Celery queue of that machine
-- ARGV[8]  slots of the workers on that machine
-- ARGV[9]  the caller's boot and ARGV[10] the ms since then, for the ledger's clock
-- Returns  a flat list: id, step, lane, machine, id, step, lane, machine, ... of the jobs to be sent; machine is '' for
--          jobs that any machine can work on
local prefix, lease, window, queue = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local lanes = cjson.decode(ARGV[5])
local machine, machine_queue, machine_slots = ARGV[6], ARGV[7], tonumber(ARGV[8])
local now = read_clock(prefix, ARGV[9], tonumber(ARGV[10]))
-- Of work that any machine can do, and of work for this machine alone.
local waiting = {[''] = redis.call('LLEN', queue)}
if machine ~= '' then waiting[machine] = redis.call('LLEN', machine_queue) end
-- Messages that wait for this machine alone must not fill the window: the other machines would have nothing to do.
local room = machine ~= '' and machine_slots - waiting[machine] or 0

local function due_key(lane, home)
  return prefix .. 'due:' .. lane .. (home ~= '' and '@' .. home or '')
end

-- The job that has been due longest, and the machine that alone can work on it, or ''.
local function next_due(lane)
  local function first(home)
    local entry = redis.call('ZRANGEBYSCORE', due_key(lane, home), '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1)
    return entry[1], tonumber(entry[2]) or math.huge
  end
  local any, any_at = first('')
  if room <= 0 then return any, '' end
  local own, own_at = first(machine)
  if own and (not any or own_at < any_at) then return own, machine end
  return any, ''
end

local function stopped(lane)
  if not lane.has_breaker then return false end
  local state = redis.call('HGET', prefix .. 'account:' .. lane.lane, 'state')
  if state == 'parked' or state == 'down' then return true end
  local gate = prefix .. 'gate:' .. lane.group
  local shut_until = tonumber(redis.call('GET', gate) or 0)
  if shut_until > now then return true end
  if shut_until > 0 then redis.call('DEL', gate) end
  return false
end

-- The due entry moves to the end of a lease: if the message is lost, the job is due again then.
local function take_slot(lane, home, id)
  redis.call('ZADD', due_key(lane, home), now + lease, id)
  redis.call('ZADD', prefix .. 'flying:' .. lane, now + lease, id)
end

-- One message confirms all of a patient's waiting documents, so their due entries move with the first one's. Otherwise
-- each would send a message that finds nothing left to do.
local function postpone_others_of_patient(lane, home, id)
  local patient, together = unpack(redis.call('HMGET', prefix .. 'job:' .. id, 'patient', 'together'))
  if together == '0' then return end
  for _, other in ipairs(redis.call('SMEMBERS', prefix .. 'waiting:' .. patient)) do
    if other ~= id then
      -- Only those of the same list: a step starts no job of another machine.
      local at = redis.call('ZSCORE', due_key(lane, home), other)
      if at and tonumber(at) <= now then redis.call('ZADD', due_key(lane, home), now + lease, other) end
    end
  end
end

local in_flight = 0
for _, lane in ipairs(lanes) do
  -- A slot whose lease ran out is free: its worker died, or its message was lost.
  redis.call('ZREMRANGEBYSCORE', prefix .. 'flying:' .. lane.lane, '-inf', now)
  local taken_slots = redis.call('ZCARD', prefix .. 'flying:' .. lane.lane)
  in_flight = in_flight + taken_slots
  lane.free = lane.slots - taken_slots
  if stopped(lane) then lane.free = 0 end
  if lane.has_breaker and redis.call('HGET', prefix .. 'account:' .. lane.lane, 'trial') then
    lane.free = math.min(lane.free, 1 - taken_slots)  -- half-open: one document shows whether the account works
  end
end

local taken = {}
-- Each call begins with another lane. Without that, the first one would get every slot that becomes free.
local first = #lanes > 0 and redis.call('INCR', prefix .. 'turn') % #lanes or 0
local more = true
while more and in_flight < window do
  more = false
  for turn = 1, #lanes do
    local lane = lanes[(first + turn - 1) % #lanes + 1]
    if lane.free > 0 and in_flight < window then
      local id, home = next_due(lane.lane)
      if id then
        more = true
        local row = prefix .. 'job:' .. id
        local step, sent_at = unpack(redis.call('HMGET', row, 'step', 'sent_at'))
        if not step or step == '' then
          redis.call('ZREM', due_key(lane.lane, home), id)  -- the row is gone, or has no work left
        else
          lane.free = lane.free - 1
          in_flight = in_flight + 1
          take_slot(lane.lane, home, id)
          -- A message that was sent and not started may still wait in the queue. It gets up to five leases while the
          -- queue has messages at all: another one would only make the queue longer.
          local still_queued = sent_at and waiting[home] > 0 and now - tonumber(sent_at) < 5 * lease
          if not still_queued then
            redis.call('HSET', row, 'sent_at', now, 'next_at', now + lease)
            if step == 'confirm' then postpone_others_of_patient(lane.lane, home, id) end
            if home ~= '' then room = room - 1 end
            taken[#taken + 1] = id
            taken[#taken + 1] = step
            taken[#taken + 1] = lane.lane
            taken[#taken + 1] = home
          end
        end
      end
    end
  end
end
return taken
