-- Read one page of a list of jobs from its newest end, and tell which of them are wanted. Changes nothing.
--
-- ARGV[1]  key prefix
-- ARGV[2]  the list: a sorted set of job ids
-- ARGV[3]  the highest score of the page, and ARGV[4] the lowest of the list, as ZRANGE BYSCORE takes them
-- ARGV[5]  how many to read
-- ARGV[6]  what is wanted, a JSON object: field of the row -> the values it may have. Of `created_at` {from, to before},
--          each a number or ''
-- Returns  {the last score that was read, or '' at the list's end, id, its score, id, its score, ...}
local prefix, list, highest, lowest, most = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local wanted = cjson.decode(ARGV[6])
local since, before = tonumber(wanted.created_at[1]), tonumber(wanted.created_at[2])
wanted.created_at = nil

local fields, allowed = {'created_at'}, {}
for field, values in pairs(wanted) do
  fields[#fields + 1], allowed[field] = field, {}
  for _, value in ipairs(values) do allowed[field][value] = true end
end

local function fits(id)
  local row = redis.call('HMGET', prefix .. 'job:' .. id, unpack(fields))
  local created_at = tonumber(row[1])
  if not created_at then return false end  -- it has expired
  if since and created_at < since or before and created_at >= before then return false end
  for i = 2, #fields do
    if not allowed[fields[i]][row[i] or ''] then return false end
  end
  return true
end

local page = redis.call('ZRANGE', list, highest, lowest, 'BYSCORE', 'REV', 'LIMIT', 0, most, 'WITHSCORES')
local last = #page == 2 * most and page[#page] or ''
if last ~= '' then
  -- The rest of the last score, so that the next page begins below it, whatever joins or leaves the list meanwhile.
  local same = redis.call('ZRANGE', list, last, last, 'BYSCORE', 'REV', 'WITHSCORES')
  while page[#page] == last do
    page[#page], page[#page - 1] = nil, nil
  end
  for _, value in ipairs(same) do page[#page + 1] = value end
end
local found = {last}
for i = 1, #page, 2 do
  if fits(page[i]) then
    found[#found + 1] = page[i]
    found[#found + 1] = page[i + 1]
  end
end
return found
