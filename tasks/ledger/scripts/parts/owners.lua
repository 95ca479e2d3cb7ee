-- Let a job own one of the provider's records, which then proves no other job of its scope (patient or account).
--
-- Returns  false if it is another job's
local OWNERS_KEPT = 2678400  -- seconds: 31 days
local function own_record(prefix, scope, record, id, now)
  local owners, since = prefix .. 'claims:' .. scope, prefix .. 'claimed-at:' .. scope
  if redis.call('HSETNX', owners, record, id) == 0 and redis.call('HGET', owners, record) ~= id then return false end
  redis.call('ZADD', since, now, record)
  -- The first of its scope, which is the only one of most patients: there are no older ones.
  if redis.call('EXPIRE', owners, OWNERS_KEPT, 'NX') == 1 then
    redis.call('EXPIRE', since, OWNERS_KEPT)
    return true
  end
  -- An account's hash is in constant use and never expires, so old entries leave it a few at a time.
  for _, old in ipairs(redis.call('ZRANGEBYSCORE', since, 0, now - OWNERS_KEPT * 1000, 'LIMIT', 0, 16)) do
    redis.call('HDEL', owners, old)
    redis.call('ZREM', since, old)
  end
  redis.call('EXPIRE', owners, OWNERS_KEPT)
  redis.call('EXPIRE', since, OWNERS_KEPT)
  return true
end

