-- What is sealed of a job, each in a key of its own: a row with long values takes twice the memory of one without.
--
-- Rows of an earlier version hold them as fields, until they are written again.
local SEALED = {'document', 'facts', 'failure'}

local function sealed_key(prefix, part, id)
  return prefix .. part .. ':' .. id
end

-- Adds the sealed parts of a job to its row, a flat list of fields and values.
local function add_sealed(prefix, id, row)
  local keys = {}
  for i, part in ipairs(SEALED) do keys[i] = sealed_key(prefix, part, id) end
  for i, value in ipairs(redis.call('MGET', unpack(keys))) do
    if value then
      row[#row + 1] = SEALED[i]
      row[#row + 1] = value
    end
  end
  return row
end

-- How long the sealed parts stay, as the row does: seconds, or nil for as long as it has work left.
local function keep_sealed(prefix, id, seconds)
  for _, part in ipairs(SEALED) do
    if seconds then
      redis.call('EXPIRE', sealed_key(prefix, part, id), seconds)
    else
      redis.call('PERSIST', sealed_key(prefix, part, id))
    end
  end
end

