-- The ledger's clock.
--
-- Redis's own clock may be set at any moment: by NTP, by a person, by a machine that boots with a wrong one. Leases, due
-- times and budgets therefore go by the ledger's clock, which counts the time that was seen passing. It moves as far as
-- Redis's clock has moved since the last script. A move that is too large, or backwards, is not believed: the ledger's
-- clock stands still. How much time has passed in truth, a feeder can tell by the clock of its machine since boot, which
-- nobody can set. Times that people read are Redis's.
--
-- The hash `clock`: `seen`, Redis's time at the last look; `ahead`, the ledger's time less Redis's; and for each boot of
-- a machine `boot:<id>`, the ledger's time less the time since that boot. All in ms.
--
-- A caller that has just been told both times brings them along. What was read then holds for as long as a move of Redis's
-- clock would be believed, so the hash is not read again.
--
-- boot, boot_ms  a machine's boot, and the ms since then; nil if the caller does not know them
-- told           the ledger's time and Redis's as an earlier script has told them ('<ms> <ms>'); nil or '' to read the hash
-- Returns        the ledger's time and Redis's, both in ms since 1970; and Redis's in microseconds
local LARGEST_MOVE = 5000  -- feeders look every 0.3 s, and every 3 s while they rest; a smaller lease than this is for tests
local FINEST_NOTE = 100  -- a move that is smaller is added up with the next, so that not every script writes
local function read_clock(prefix, boot, boot_ms, told)
  local key = prefix .. 'clock'
  local time = redis.call('TIME')
  local wall = time[1] * 1000 + math.floor(time[2] / 1000)
  local ledger_then, wall_then = string.match(told or '', '^(%d+) (%d+)$')
  if wall_then and wall - wall_then >= 0 and wall - wall_then <= LARGEST_MOVE then
    return wall + ledger_then - wall_then, wall, time[1] * 1000000 + time[2]
  end
  local fields = {'seen', 'ahead', boot and 'boot:' .. boot}
  local seen, ahead, since_boot = unpack(redis.call('HMGET', key, unpack(fields)))
  local moved = wall - (tonumber(seen) or wall)
  local offset = tonumber(ahead) or 0
  if moved < 0 or moved > LARGEST_MOVE then offset = offset - moved end
  if boot then
    since_boot = tonumber(since_boot)
    -- The message may have been on its way for long, so this time is the least that has passed.
    if since_boot then offset = math.max(offset, since_boot + boot_ms - wall) end
    -- The least of all differences is the one of the fastest message.
    if not since_boot or wall + offset - boot_ms < since_boot then
      redis.call('HSET', key, 'boot:' .. boot, wall + offset - boot_ms)
    end
  end
  if not seen or moved < 0 or moved > FINEST_NOTE or offset ~= tonumber(ahead) then
    redis.call('HSET', key, 'seen', wall, 'ahead', offset)
  end
  return wall + offset, wall, time[1] * 1000000 + time[2]
end

