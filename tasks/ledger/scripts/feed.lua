-- Take due jobs, lanes in turn, until the window is full. ARGV: prefix, lease ms, window, queue of waiting messages,
-- lanes as JSON: [{lane, slots, gated, group}]. Returns a flat list of id, step, lane, ...
local prefix, lease, window, queue = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local lanes = cjson.decode(ARGV[5])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local messages_wait = redis.call('LLEN', queue) > 0

local function closed(lane)
  if not lane.gated then return false end
  local state = redis.call('HGET', prefix .. 'account:' .. lane.lane, 'state')
  if state == 'parked' or state == 'down' then return true end
  return redis.call('EXISTS', prefix .. 'limit:' .. lane.group) == 1
end

local function fly(lane, id)
  redis.call('ZADD', prefix .. 'due:' .. lane, now + lease, id)
  redis.call('ZADD', prefix .. 'flying:' .. lane, now + lease, id)
end

-- One message asks for all of a patient's waiting documents: the others' entries move along with the first.
local function take_patient(lane, id)
  local patient, together = unpack(redis.call('HMGET', prefix .. 'job:' .. id, 'patient', 'together'))
  if together == '0' then return end
  for _, other in ipairs(redis.call('SMEMBERS', prefix .. 'waiting:' .. patient)) do
    if other ~= id then
      local at = redis.call('ZSCORE', prefix .. 'due:' .. lane, other)
      if at and tonumber(at) <= now then redis.call('ZADD', prefix .. 'due:' .. lane, now + lease, other) end
    end
  end
end

local flying = 0
for _, lane in ipairs(lanes) do
  redis.call('ZREMRANGEBYSCORE', prefix .. 'flying:' .. lane.lane, '-inf', now)
  local held = redis.call('ZCARD', prefix .. 'flying:' .. lane.lane)
  flying = flying + held
  lane.free = lane.slots - held
  if closed(lane) then lane.free = 0 end
  if lane.gated and redis.call('HGET', prefix .. 'account:' .. lane.lane, 'trial') then
    lane.free = math.min(lane.free, 1 - held)  -- it was unwell: one document shows whether it is well
  end
end

local taken = {}
local first = #lanes > 0 and redis.call('INCR', prefix .. 'turn') % #lanes or 0
local more = true
while more and flying < window do
  more = false
  for turn = 1, #lanes do
    local lane = lanes[(first + turn - 1) % #lanes + 1]
    if lane.free > 0 and flying < window then
      local id = redis.call('ZRANGEBYSCORE', prefix .. 'due:' .. lane.lane, '-inf', now, 'LIMIT', 0, 1)[1]
      if id then
        more = true
        local row = prefix .. 'job:' .. id
        local is = redis.call('HMGET', row, 'step', 'sent_at')
        if not is[1] or is[1] == '' then
          redis.call('ZREM', prefix .. 'due:' .. lane.lane, id)
        else
          lane.free = lane.free - 1
          flying = flying + 1
          fly(lane.lane, id)
          local still_queued = is[2] and messages_wait and now - tonumber(is[2]) < 5 * lease
          if not still_queued then
            redis.call('HSET', row, 'sent_at', now, 'next_at', now + lease)
            if is[1] == 'confirm' then take_patient(lane.lane, id) end
            taken[#taken + 1] = id
            taken[#taken + 1] = is[1]
            taken[#taken + 1] = lane.lane
          end
        end
      end
    end
  end
end
return taken
