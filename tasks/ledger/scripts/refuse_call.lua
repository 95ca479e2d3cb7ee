-- Store a call's refusal as its result, unless the ledger has a job of that id: its caller would be told that a document
-- has failed which is on its way. A finished result stays too.
--
-- Needs: outcome
--
-- ARGV[1]  key prefix
-- ARGV[2]  the call's id
-- ARGV[3]  the key of its result, which is the channel too on which Celery's callers hear of it
-- ARGV[4]  the result, as Celery writes it
-- ARGV[5]  seconds to keep it
-- Returns  1; 0 if it was not stored
local prefix, id, key, result, seconds = unpack(ARGV)
if redis.call('EXISTS', prefix .. 'job:' .. id, prefix .. 'alias:' .. id) > 0 then return 0 end
return show_outcome(key, result, seconds) and 1 or 0
