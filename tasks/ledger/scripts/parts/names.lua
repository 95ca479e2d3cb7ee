-- Give a document's name back, and wake the job that has waited for it longest. Needs `due`.
local function free_name(prefix, name, id, now)
  if redis.call('GET', prefix .. 'name:' .. name) ~= id then return end
  redis.call('DEL', prefix .. 'name:' .. name)
  local next_id = redis.call('ZPOPMIN', prefix .. 'name-queue:' .. name)[1]
  if not next_id then return end
  local lane, step, home = unpack(redis.call('HMGET', prefix .. 'job:' .. next_id, 'lane', 'step', 'home'))
  -- A job that was cancelled or has gone on meanwhile is not woken. XX: one that has no due entry gets none.
  if step == 'presign' or step == 'post' or step == 'register' then
    redis.call('ZADD', due_key(prefix, lane, home), 'XX', now, next_id)
  end
end

