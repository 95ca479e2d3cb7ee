-- Note a message that a worker has taken from its queue, until it is acknowledged, as kombu's transport does.
--
-- KEYS[1]  the sorted set of such messages, by when they were taken; KEYS[2] the hash of what they hold
-- ARGV[1]  delivery tag
-- ARGV[2]  the time, in seconds since 1970
-- ARGV[3]  the message with its exchange and routing key, in JSON
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
