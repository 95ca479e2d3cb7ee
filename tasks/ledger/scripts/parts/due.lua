-- The key of a lane's due entries. Those of jobs that only one machine can work on are in a list of that machine.
--
-- home  the machine; nil or '': any can
local function due_key(prefix, lane, home)
  return prefix .. 'due:' .. lane .. (home and home ~= '' and '@' .. home or '')
end

