-- Add a message that no worker takes to the dead letters.
--
-- Needs: foreign
--
-- ARGV[1]  the stream
-- ARGV[2]  seconds to keep it
-- ARGV[3]  the message, sealed
-- ARGV[4…] the other fields, a flat list
-- Returns  the entry's id
return keep_foreign(ARGV[1], tonumber(ARGV[2]), ARGV[3], {unpack(ARGV, 4)})
