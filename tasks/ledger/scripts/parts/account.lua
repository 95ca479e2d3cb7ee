-- What a move of a job tells of its account: that it answers, that documents get through, how long it takes.
local VALIDATIONS_KEPT = 20
local NOTED_EVERY = 1000  -- ms: who reads these times asks about minutes, or whether the account was slow since

local function read_account(prefix, name)
  local fields = {'state', 'failures', 'trial', 'interval', 'sick_ms', 'validations', 'answered_at', 'slow_at',
    'progress_at'}
  local account = {key = prefix .. 'account:' .. name}
  for i, value in ipairs(redis.call('HMGET', account.key, unpack(fields))) do account[fields[i]] = value or nil end
  return account
end

-- provider_answered  it has answered as it should
-- progress           a document has got through, as far as this stage
-- validation         '<from>-<until>' in ms, or nil; not of a job for which nobody looked while the account was parked or
--                    down, whose time of that was `sick_before`
local function note_account(account, now, provider_answered, progress, validation, sick_before)
  local noted, gone = {}, {}
  local function is_old(at) return not at or math.abs(now - tonumber(at)) >= NOTED_EVERY end
  local old = provider_answered and (is_old(account.answered_at) or tonumber(account.slow_at or 0) >= tonumber(account.answered_at))
    or progress and is_old(account.progress_at)
  if provider_answered then
    if account.failures then gone[#gone + 1] = 'failures' end
    -- Half-open becomes closed. An open circuit stays open: this document may have left before it opened.
    if not account.state and (account.trial or account.interval) then
      gone[#gone + 1] = 'trial'
      gone[#gone + 1] = 'interval'
    end
  end
  if validation and not account.state and (account.sick_ms or '0') == (sick_before or '0') then
    local kept = {}
    for each in string.gmatch(account.validations or '', '%S+') do kept[#kept + 1] = each end
    kept[#kept + 1] = validation
    noted[#noted + 1] = 'validations'
    noted[#noted + 1] = table.concat(kept, ' ', math.max(1, #kept - VALIDATIONS_KEPT + 1))
  end
  -- With whatever else is written. The document of a half-open circuit is always noted: the next decision rests on it.
  if old or #noted + #gone > 0 then
    if provider_answered then
      noted[#noted + 1] = 'answered_at'  -- take_due.lua keeps slots for such accounts
      noted[#noted + 1] = now
    end
    if progress then
      noted[#noted + 1] = 'progress_at'
      noted[#noted + 1] = now
    end
  end
  if #noted > 0 then redis.call('HSET', account.key, unpack(noted)) end
  if #gone > 0 then redis.call('HDEL', account.key, unpack(gone)) end
end

