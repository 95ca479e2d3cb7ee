-- Read the oldest messages of a queue, without those that are too large to be calls: one may have as many bytes as Redis
-- takes, and all of a batch together more than the reader has room for.
--
-- ARGV[1]  the queue
-- ARGV[2]  how many to look at
-- ARGV[3]  bytes that a call may have
-- ARGV[4]  bytes of all together, after which no more are read
-- Returns  the messages, the oldest first: kombu's senders push on the left, and its workers pop from the right
local found, bytes = {}, 0
for place = 1, tonumber(ARGV[2]) do
  local message = redis.call('LINDEX', ARGV[1], -place)
  if not message or bytes > tonumber(ARGV[4]) then break end
  bytes = bytes + #message
  if #message <= tonumber(ARGV[3]) then found[#found + 1] = message end
end
return found
