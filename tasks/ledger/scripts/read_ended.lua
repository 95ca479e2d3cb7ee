-- Read one page of the jobs that have ended, the earliest first: what a report counts of each. Changes nothing.
--
-- ARGV[1]  key prefix
-- ARGV[2]  the lowest score of the page, and ARGV[3] the highest of all, as ZRANGE BYSCORE takes them
-- ARGV[4]  how many to read
-- ARGV[5…] the fields of each row
-- Returns  a JSON list: the last score that was read, or '' at the end; then of each job that is there
--          [id, when it ended, field, field, ...], false for a field that the row has not
local prefix, lowest, highest, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local list, fields = prefix .. 'finished', {}
for at = 5, #ARGV do fields[#fields + 1] = ARGV[at] end

local page = redis.call('ZRANGE', list, lowest, highest, 'BYSCORE', 'LIMIT', 0, most, 'WITHSCORES')
local last = #page == 2 * most and page[#page] or ''
if last ~= '' then
  -- The rest of the last score, so that the next page begins above it.
  local same = redis.call('ZRANGE', list, last, last, 'BYSCORE', 'WITHSCORES')
  while page[#page] == last do
    page[#page], page[#page - 1] = nil, nil
  end
  for _, value in ipairs(same) do page[#page + 1] = value end
end
local found = {last}
for at = 1, #page, 2 do
  local row = redis.call('HMGET', prefix .. 'job:' .. page[at], unpack(fields))
  if row[1] then found[#found + 1] = {page[at], page[at + 1], unpack(row)} end  -- else it has expired
end
return cjson.encode(found)
