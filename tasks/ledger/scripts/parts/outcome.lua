-- Show the outcome of a job to a Celery caller.
--
-- A success stays, as in Celery's own: whoever was slower knows less.
--
-- key      of its result, which is the channel too on which Celery's callers hear of it
-- result   as Celery writes it
-- seconds  to keep it
-- Returns  true if it is shown
local function show_outcome(key, result, seconds)
  local earlier = redis.call('SET', key, result, 'EX', seconds, 'GET')
  if earlier and string.find(earlier, '"status": "SUCCESS"', 1, true) then
    redis.call('SET', key, earlier, 'EX', seconds)  -- nobody has seen the other: a script is one step
    return false
  end
  redis.call('PUBLISH', key, result)
  return true
end

