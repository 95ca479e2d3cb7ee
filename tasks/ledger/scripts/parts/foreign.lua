-- Add a message of somebody else to a stream that is bounded in count, age and bytes.
--
-- `written` counts the bytes that were ever added, so that a stream's size follows from its first and its last entry,
-- whatever was deleted or trimmed between. Entries of earlier versions lack it: they are bounded in count and age.
local KEPT_ENTRIES, KEPT_BYTES = 1000, 16777216
local function keep_foreign(stream, kept_seconds, message, fields)
  local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  local function value(entry, name)
    for i = 1, #entry[2], 2 do
      if entry[2][i] == name then return entry[2][i + 1] end
    end
    return nil
  end
  local written = (newest and tonumber(value(newest, 'written')) or 0) + #message
  -- By Redis's time, which the ids are made of.
  local oldest = string.format('%.0f', math.max(0, redis.call('TIME')[1] - kept_seconds) * 1000)
  fields[#fields + 1], fields[#fields + 2] = 'message', message
  fields[#fields + 1], fields[#fields + 2] = 'written', string.format('%.0f', written)
  local id = redis.call('XADD', stream, 'MINID', '~', oldest, '*', unpack(fields))
  redis.call('XTRIM', stream, 'MAXLEN', '~', KEPT_ENTRIES)
  while true do
    local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    local before = tonumber(value(first, 'written'))
    if first[1] == id or not before or written - before + #value(first, 'message') <= KEPT_BYTES then return id end
    redis.call('XDEL', stream, first[1])
  end
end
