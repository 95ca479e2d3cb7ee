-- adopt: read the marks of this ledger, and write those that are missing.
--
-- ARGV  1 prefix
--       2 this process's mark of its secret_key
--       3 the schema that this process knows
--       4 the version of chartpost that this process is
-- Out   {"ok"}; {"newer"} or {"other_key"} if the ledger must not be used, and nothing was written then.

local prefix, mark, known, version = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]

local schema = tonumber(redis.call('GET', prefix .. 'schema') or '0')
if schema > known then return {'newer'} end
local seal = redis.call('GET', prefix .. 'seal-check')
if seal and seal ~= mark then return {'other_key'} end

if not seal then redis.call('SET', prefix .. 'seal-check', mark) end
if schema < known then
  redis.call('SET', prefix .. 'schema', known)
  redis.call('SET', prefix .. 'schema-version', version)
end
return {'ok'}
