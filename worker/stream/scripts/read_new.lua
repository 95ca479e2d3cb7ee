-- Give new messages of an intake stream to a reader, fewer of them if they are large: an entry may have as many bytes as
-- Redis takes, and all of them together more than the reader has room for. XREADGROUP alone can only count.
--
-- ARGV[1]  stream
-- ARGV[2]  group
-- ARGV[3]  the reader's name
-- ARGV[4]  how many at most
-- ARGV[5]  bytes of all together, after which no more are read
-- Returns  the entries, the oldest first: {id, {field, value, field, value, ...}}
local found, bytes = {}, 0
while #found < tonumber(ARGV[4]) and bytes <= tonumber(ARGV[5]) do
  local answer = redis.call('XREADGROUP', 'GROUP', ARGV[2], ARGV[3], 'COUNT', 1, 'STREAMS', ARGV[1], '>')
  if not answer then break end
  local entry = answer[1][2][1]
  for _, part in ipairs(entry[2]) do bytes = bytes + #part end
  found[#found + 1] = entry
end
return found
