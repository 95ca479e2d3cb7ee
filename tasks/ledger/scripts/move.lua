-- A guarded move. ARGV: prefix, id, token ('' for a move that needs no holder), allowed stages (comma list),
-- change as JSON:
--   stage, step, lane   what changes of them
--   due_in              ms from now, or -1: no work is left
--   in_flight              true: the next message is on its way, the slot stays taken
--   keep                true: the holder goes on holding (the lease is neither released nor renewed)
--   set, unset, incr    fields
--   stamp               a stage that was passed on the way, with this move
--   claim               a record id, for this job alone, among those of its scope (a patient, or the account)
--   uncommitted         true: only while the commit point has not been passed
--   healthy             true: the provider answered as it should
--   release             true: give the name back, and wake who waits for it
--   event               fields of an entry of the events stream: written with the move, so exactly once
--   sent                key and field under which a delivered document is found again
--   expire_days         with due_in -1: when the row leaves
-- Returns 'ok', or why not: 'gone', 'fenced', 'moved', 'committed', 'claimed'.
local prefix, id, token, stages = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local change = cjson.decode(ARGV[5])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local row = prefix .. 'job:' .. id
local is = redis.call('HMGET', row, 'stage', 'token', 'lane', 'account', 'patient', 'name', 'committed', 'sent_before', 'scope')
local stage, lane, account, patient, name = is[1], is[3], is[4], is[5], is[6]

if not stage then return 'gone' end
if token ~= '' and is[2] ~= token then return 'fenced' end
if not string.find(',' .. stages .. ',', ',' .. stage .. ',', 1, true) then return 'moved' end
if change.uncommitted and (is[7] == '1' or is[8] == '1') then return 'committed' end
if change.claim then
  local claims = prefix .. 'claims:' .. (is[9] or patient)
  local owner = redis.call('HGET', claims, change.claim)
  if owner and owner ~= id then return 'claimed' end
  local since = prefix .. 'claimed-at:' .. (is[9] or patient)
  redis.call('HSET', claims, change.claim, id)
  redis.call('ZADD', since, now, change.claim)
  -- An account's hash is never old as a whole, so that its old entries leave it a few at a time.
  for _, old in ipairs(redis.call('ZRANGEBYSCORE', since, 0, now - 2678400000, 'LIMIT', 0, 16)) do
    redis.call('HDEL', claims, old)
    redis.call('ZREM', since, old)
  end
  redis.call('EXPIRE', claims, 2678400)
  redis.call('EXPIRE', since, 2678400)
end

if token == '' then redis.call('HINCRBY', row, 'token', 1) end
redis.call('HSET', row, 'updated_at', now)
if not change.keep then redis.call('HSET', row, 'lease_until', 0) end
if change.step then redis.call('HSET', row, 'step', change.step) end
for field, value in pairs(change.set or {}) do redis.call('HSET', row, field, value) end
for _, field in ipairs(change.unset or {}) do redis.call('HDEL', row, field) end
for field, by in pairs(change.incr or {}) do redis.call('HINCRBY', row, field, by) end
if change.unknown then redis.call('HSETNX', row, 'unknown_since', now) end
if change.stamp then redis.call('HSET', row, 'at_' .. change.stamp, now) end
if change.healthy then
  redis.call('HDEL', prefix .. 'account:' .. account, 'failures')
  if not redis.call('HGET', prefix .. 'account:' .. account, 'state') then
    redis.call('HDEL', prefix .. 'account:' .. account, 'trial', 'interval')
  end
end

if change.stage and change.stage ~= stage then
  redis.call('HSET', row, 'stage', change.stage, 'at_' .. change.stage, now)
  redis.call('HSET', row, 'sick_before', redis.call('HGET', prefix .. 'account:' .. account, 'sick_ms') or '0')
  if change.stage == 'stored' or change.stage == 'registered' or change.stage == 'delivered' then
    redis.call('HSET', prefix .. 'account:' .. account, 'progress_at', now)
  end
  local final = change.stage == 'delivered' or change.stage == 'failed' or change.stage == 'cancelled'
  if final then
    redis.call('ZREM', prefix .. 'open:' .. account, id)
    redis.call('ZADD', prefix .. 'finished', now, id)
  else
    redis.call('ZREM', prefix .. 'finished', id)
    redis.call('ZADD', prefix .. 'open:' .. account, redis.call('HGET', row, 'created_at'), id)
    redis.call('PERSIST', row)
  end
end

if change.sent then
  local sent = prefix .. 'sent:' .. change.sent[1]
  redis.call('HSET', sent, change.sent[2], id)
  redis.call('EXPIRE', sent, 2592000)
end

if change.event then
  redis.call('XADD', prefix .. 'events', 'MAXLEN', '~', 10000, '*', unpack(change.event))
end

local step = redis.call('HGET', row, 'step')
if step == 'confirm' then
  redis.call('SADD', prefix .. 'waiting:' .. patient, id)
else
  redis.call('SREM', prefix .. 'waiting:' .. patient, id)
end

if change.lane and change.lane ~= lane then
  redis.call('ZREM', prefix .. 'due:' .. lane, id)
  redis.call('ZREM', prefix .. 'flying:' .. lane, id)
  redis.call('HSET', row, 'lane', change.lane)
  lane = change.lane
end
if change.due_in then
  if change.due_in < 0 then
    redis.call('ZREM', prefix .. 'due:' .. lane, id)
    redis.call('HDEL', row, 'next_at')
    redis.call('EXPIRE', row, math.floor(change.expire_days * 86400))
  else
    redis.call('ZADD', prefix .. 'due:' .. lane, now + change.due_in, id)
    redis.call('HSET', row, 'next_at', now + change.due_in)
  end
  if change.in_flight then
    redis.call('ZADD', prefix .. 'flying:' .. lane, now + change.due_in, id)
    redis.call('HSET', row, 'sent_at', now)
  else
    redis.call('ZREM', prefix .. 'flying:' .. lane, id)
    redis.call('HDEL', row, 'sent_at')
  end
end

if change.release and name and redis.call('GET', prefix .. 'name:' .. name) == id then
  redis.call('DEL', prefix .. 'name:' .. name)
  local next_one = redis.call('ZPOPMIN', prefix .. 'name-queue:' .. name)
  if next_one[1] then
    local waiting = redis.call('HMGET', prefix .. 'job:' .. next_one[1], 'lane', 'step')
    if waiting[2] == 'presign' or waiting[2] == 'post' or waiting[2] == 'register' then
      redis.call('ZADD', prefix .. 'due:' .. waiting[1], 'XX', now, next_one[1])
    end
  end
end
return 'ok'
