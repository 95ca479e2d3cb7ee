-- Read how far some jobs have come, for the page's index. Changes nothing.
--
-- ARGV[1]  key prefix
-- ARGV[2]  the jobs, a JSON list of ids
-- Returns  a JSON list: of each job [stage, code, whether it was dismissed], false for what it has not
local prefix, found = ARGV[1], {}
for at, id in ipairs(cjson.decode(ARGV[2])) do
  local row = redis.call('HMGET', prefix .. 'job:' .. id, 'stage', 'code', 'dismissed')
  found[at] = {row[1], row[2], row[3] and true or false}
end
return cjson.encode(found)
