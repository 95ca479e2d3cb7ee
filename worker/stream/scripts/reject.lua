-- Move a message from the intake stream to the rejected ones, in one step.
--
-- ARGV[1]   key prefix
-- ARGV[2]   group
-- ARGV[3]   the entry's id
-- ARGV[4]   job id
-- ARGV[5]   code
-- ARGV[6]   reason
-- ARGV[7]   the message, sealed
-- ARGV[8]   seconds to keep it, and the pointer from the job id to it
-- ARGV[9…]  the fields of the event, a flat list; absent if no event must be written
-- Returns   1; 0 if another reader was faster: only the reader that acknowledges a message adds it, so that it stands
--           among the rejected once
local prefix, group, entry_id, job_id, code, reason, message, kept_seconds = unpack(ARGV, 1, 8)
local EVENTS_KEPT = 10000  -- as in tasks/ledger/scripts/move.lua, which writes to the same stream
local stream = prefix .. 'intake'
if redis.call('XACK', stream, group, entry_id) == 0 then return 0 end
redis.call('XDEL', stream, entry_id)
-- By Redis's time, which the ids are made of.
local oldest = math.max(0, redis.call('TIME')[1] - kept_seconds) * 1000
local rejected = redis.call('XADD', stream .. ':rejected', 'MINID', '~', string.format('%.0f', oldest), '*',
  'id', entry_id, 'code', code, 'reason', reason, 'message', message)
redis.call('SET', prefix .. 'rejected:' .. job_id, rejected, 'EX', kept_seconds)
if ARGV[9] then
  redis.call('XADD', prefix .. 'events', 'MAXLEN', '~', EVENTS_KEPT, '*', unpack(ARGV, 9))
end
return 1
