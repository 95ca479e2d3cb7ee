-- Move a message from an intake stream to the rejected ones, in one step.
--
-- Needs: foreign
--
-- ARGV[1]   key prefix
-- ARGV[2]   group
-- ARGV[3]   the entry's id
-- ARGV[4]   job id
-- ARGV[5]   code
-- ARGV[6]   reason
-- ARGV[7]   the beginning of the message, sealed
-- ARGV[8]   how many bytes the whole message had
-- ARGV[9]   the SHA-256 of the whole message
-- ARGV[10]  seconds to keep it, and the pointer from the job id to it
-- ARGV[11]  the stream
-- ARGV[12]  the producer whose stream it is, or ''
-- ARGV[13…] the fields of the event, a flat list; absent if no event must be written
-- Returns   1; 0 if another reader was faster: only the reader that acknowledges a message adds it, so that it stands
--           among the rejected once
local prefix, group, entry_id, job_id, code, reason, message, size, digest, kept_seconds, stream, producer =
  unpack(ARGV, 1, 12)
local EVENTS_KEPT = 10000  -- as in tasks/ledger/scripts/move.lua, which writes to the same stream
-- Nothing is written before it is sure that both can be: a script that fails half-way would lose the message.
redis.call('XLEN', prefix .. 'intake:rejected')
redis.call('XLEN', prefix .. 'events')
if redis.call('XACK', stream, group, entry_id) == 0 then return 0 end
redis.call('XDEL', stream, entry_id)
local rejected = keep_foreign(prefix .. 'intake:rejected', tonumber(kept_seconds), message,
  {'id', entry_id, 'producer', producer, 'code', code, 'reason', reason, 'size_bytes', size, 'sha256', digest})
redis.call('SET', prefix .. 'rejected:' .. job_id, rejected, 'EX', kept_seconds)
if ARGV[13] then
  redis.call('XADD', prefix .. 'events', 'MAXLEN', '~', EVENTS_KEPT, '*', unpack(ARGV, 13))
end
return 1
