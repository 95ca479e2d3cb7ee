-- Find the job that a record of the provider proves, among the owners of several scopes. Changes nothing.
--
-- ARGV[1]  key prefix
-- ARGV[2]  the record's id
-- ARGV[3]  the scopes, a JSON list
-- Returns  the job's id, or nil
local prefix, record = ARGV[1], ARGV[2]
for _, scope in ipairs(cjson.decode(ARGV[3])) do
  local owner = redis.call('HGET', prefix .. 'claims:' .. scope, record)
  if owner then return owner end
end
return nil
