-- Find the keys that have become another type.
--
-- ARGV     a flat list: key, the type that it must have, key, type, ...
-- Returns  a flat list of those that are there and have another one: place in ARGV, the type that it has, ...
local wrong = {}
for i = 1, #ARGV, 2 do
  local found = redis.call('TYPE', ARGV[i]).ok
  if found ~= ARGV[i + 1] and found ~= 'none' then
    wrong[#wrong + 1] = i
    wrong[#wrong + 1] = found
  end
end
return wrong
