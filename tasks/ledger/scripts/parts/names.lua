-- A document's name is held by one job at a time, and handed on to the one of those that wait which was opened first.
-- Needs `due`.

-- Ask for a name. Returns the id of the job that holds it, which is the caller's if it does now.
--
-- place  tells where the caller's job waits otherwise: the lowest is next
local function ask_for_name(prefix, name, id, place)
  local key, queue = prefix .. 'name:' .. name, prefix .. 'name-queue:' .. name
  if not redis.call('SET', key, id, 'NX') then
    local holder = redis.call('GET', key)
    -- A holder whose row is gone will never give the name back.
    if holder ~= id and redis.call('EXISTS', prefix .. 'job:' .. holder) == 1 then
      redis.call('ZADD', queue, 'NX', place(), id)
      return holder
    end
    redis.call('SET', key, id)
  end
  redis.call('ZREM', queue, id)  -- one that waited, and asked before it was its turn
  return id
end

-- Hand a name on to the job that has waited longest, and wake that one.
local function free_name(prefix, name, id, now)
  local key, queue = prefix .. 'name:' .. name, prefix .. 'name-queue:' .. name
  if redis.call('GET', key) ~= id then return end
  while true do
    local next_id = redis.call('ZPOPMIN', queue)[1]
    if not next_id then
      redis.call('DEL', key)
      return
    end
    local lane, step, home = unpack(redis.call('HMGET', prefix .. 'job:' .. next_id, 'lane', 'step', 'home'))
    -- One that was cancelled or has gone on meanwhile has no more use for it.
    if step == 'presign' or step == 'post' or step == 'register' then
      -- One whose machine is away must not hold up the others.
      if home then redis.call('DEL', key) else redis.call('SET', key, next_id) end
      -- XX: one that has no due entry gets none.
      redis.call('ZADD', due_key(prefix, lane, home), 'XX', now, next_id)
      return
    end
  end
end

