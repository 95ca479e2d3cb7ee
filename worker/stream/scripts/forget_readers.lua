-- Remove readers that hold no message from the group: those that have been idle for long, and one by its name.
--
-- One script, so that no reader can be given a message between the check of what it holds and its removal: the
-- messages of a removed reader would never be taken over.
--
-- ARGV[1]  stream
-- ARGV[2]  group
-- ARGV[3]  idle milliseconds
-- ARGV[4]  the name of the reader to remove at once, or ''
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', ARGV[1], ARGV[2])) do
  local reader = {}
  for i = 1, #flat, 2 do reader[flat[i]] = flat[i + 1] end
  if reader.pending == 0 and (reader.idle > tonumber(ARGV[3]) or reader.name == ARGV[4]) then
    redis.call('XGROUP', 'DELCONSUMER', ARGV[1], ARGV[2], reader.name)
  end
end
