-- Open a job, once per id and once per idempotency key.
--
-- Needs: clock, due, sealed, names
--
-- ARGV[1]  key prefix
-- ARGV[2]  job id
-- ARGV[3]  lane of its due entry
-- ARGV[4]  idempotency key (an HMAC), or ''
-- ARGV[5]  fingerprint of the request (an HMAC): tells whether two calls with one idempotency key ask for the same
-- ARGV[6]  '1' to open nothing that Redis had forgotten a commit of, or ''
-- ARGV[7]  the job's name, if jobs of one name must be worked on in the order in which they were opened; or ''
-- ARGV[8…] the row and its sealed parts: field, value, field, value, ...
-- Returns  {kind, job id}: 'opened'; 'exists' (the same id before); 'same' (the id is an alias, or the idempotency key
--          has opened another job); 'conflict' (the idempotency key was used for another document); 'forgotten' and the
--          commit, as `Ledger.remember` has kept it
local prefix, id, lane, idempotency_key, fingerprint, in_order = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[7]
local MONTH = 2592000  -- seconds
local now, wall = read_clock(prefix)

-- At once whether the id is known at all, which it usually is not.
if redis.call('EXISTS', prefix .. 'alias:' .. id, prefix .. 'job:' .. id, prefix .. 'forgotten:' .. id) > 0 then
  local alias = redis.call('GET', prefix .. 'alias:' .. id)
  if alias then return {'same', alias} end
  if redis.call('EXISTS', prefix .. 'job:' .. id) == 1 then return {'exists', id} end
  -- Here, so that a job is either there when its commit is remembered, or is opened as one that may have been sent.
  local commit = ARGV[6] == '1' and redis.call('GET', prefix .. 'forgotten:' .. id)
  if commit then return {'forgotten', commit} end
end

if idempotency_key ~= '' then
  local key = prefix .. 'idem:' .. idempotency_key
  local earlier, its_fingerprint = unpack(redis.call('HMGET', key, 'job', 'fingerprint'))
  if earlier and redis.call('EXISTS', prefix .. 'job:' .. earlier) == 1 then
    if its_fingerprint ~= fingerprint then return {'conflict', earlier} end
    redis.call('SET', prefix .. 'alias:' .. id, earlier, 'EX', MONTH)
    redis.call('SADD', prefix .. 'aliases:' .. earlier, id)
    redis.call('EXPIRE', prefix .. 'aliases:' .. earlier, MONTH)
    return {'same', earlier}
  end
  redis.call('HSET', key, 'job', id, 'fingerprint', fingerprint)
  redis.call('EXPIRE', key, MONTH)
end

local given, fields = {}, {}
for at = 8, #ARGV, 2 do given[ARGV[at]] = ARGV[at + 1] end
local account, home = given.account, given.home
for _, part in ipairs(SEALED) do
  if given[part] then redis.call('SET', sealed_key(prefix, part, id), given[part]) end
  given[part] = nil
end
-- How long the account had been parked or down by now: that time is subtracted from what the job waits later.
local sick_ms = redis.pcall('HGET', prefix .. 'account:' .. account, 'sick_ms')
given.sick_before = type(sick_ms) == 'string' and sick_ms or '0'
given.lane, given.next_at = lane, now
given.created_at, given.updated_at, given.at_received, given.since_received = wall, wall, wall, now
if given.stage == 'failed' then given.at_failed, given.since_failed = wall, now end  -- refused at the door
for field, value in pairs(given) do
  fields[#fields + 1] = field
  fields[#fields + 1] = value
end
redis.call('HSET', prefix .. 'job:' .. id, unpack(fields))
-- First of the lists, so that a job whose row is there is due too. If this key has become another type, the lane stands
-- still, and whoever mends it makes the lane's entries again: the job must be open until then.
redis.pcall('ZADD', due_key(prefix, lane, home), now, id)
if in_order ~= '' and given.stage ~= 'failed' then
  ask_for_name(prefix, in_order, id, function()
    -- Behind the last one, also if both were opened within a millisecond, or the clock was put back between them.
    local last = redis.call('ZRANGE', prefix .. 'name-queue:' .. in_order, -1, -1, 'WITHSCORES')[2]
    return math.max(wall, tonumber(last or 0) + 0.01)
  end)
end
redis.call('SADD', prefix .. 'accounts', account)
if home then redis.call('SADD', prefix .. 'machines', home) end
redis.call('ZADD', prefix .. 'jobs', wall, id)
if given.stage == 'failed' then  -- only its closing is left
  redis.call('ZADD', prefix .. 'finished', wall, id)
else
  redis.pcall('ZADD', prefix .. 'open:' .. account, wall, id)
end
return {'opened', id}
