-- What is sealed of a job, each in a key of its own: a row with long values takes twice the memory of one without.
--
-- Rows of an earlier version hold them as fields, until they are written again.
local SEALED = {'document', 'facts', 'failure'}

local function sealed_key(prefix, part, id)
  return prefix .. part .. ':' .. id
end

-- A failure is written with its code, and both go together: a row without a code has none.
local function may_have(row, part)
  return part ~= 'failure' or row.code
end

-- Adds the sealed parts of a job to its row.
local function add_sealed(prefix, id, row)
  local keys = {}
  for i, part in ipairs(SEALED) do keys[i] = sealed_key(prefix, part, id) end
  for i, value in ipairs(redis.call('MGET', unpack(keys))) do
    if value then row[SEALED[i]] = value end
  end
  return row
end

-- How long the sealed parts of a job in this row stay, as the row does: seconds, or nil for as long as it has work left.
local function keep_sealed(prefix, id, row, seconds)
  for _, part in ipairs(SEALED) do
    local key = sealed_key(prefix, part, id)
    if not seconds then
      redis.call('PERSIST', key)
    elseif may_have(row, part) then
      redis.call('EXPIRE', key, seconds)
    end
  end
end

