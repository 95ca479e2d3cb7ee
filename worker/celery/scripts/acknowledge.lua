-- Forget a message that was noted as unacknowledged: its task has ended.
--
-- KEYS[1]  the sorted set of such messages; KEYS[2] the hash of what they hold
-- ARGV[1]  delivery tag
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
