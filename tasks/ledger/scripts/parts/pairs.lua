-- Hashes as Redis returns and takes them (field, value, field, value, ...), and as tables.

local function to_table(flat)
  local row = {}
  for i = 1, #flat, 2 do row[flat[i]] = flat[i + 1] end
  return row
end

local function to_list(row)
  local flat = {}
  for field, value in pairs(row) do
    flat[#flat + 1] = field
    flat[#flat + 1] = value
  end
  return flat
end

