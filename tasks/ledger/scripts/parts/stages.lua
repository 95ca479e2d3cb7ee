-- The lists of open and finished jobs, by which jobs are found by their stage.
local FINAL = {delivered = true, failed = true, cancelled = true}

-- Returns  true if the job was finished and is open again
local function list_stage(prefix, id, account, created_at, from, to, wall)
  local open, finished = prefix .. 'open:' .. account, prefix .. 'finished'
  if FINAL[to] then
    redis.call('ZREM', open, id)
    redis.call('ZADD', finished, wall, id)
    return false
  end
  if not FINAL[from] then return false end  -- it is listed since it was opened
  redis.call('ZADD', open, created_at, id)
  redis.call('ZREM', finished, id)
  return true
end

