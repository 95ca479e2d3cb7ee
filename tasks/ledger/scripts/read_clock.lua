-- Read the ledger's clock.
--
-- Needs: clock
--
-- ARGV[1]  key prefix
-- Returns  {the ledger's time, Redis's time}, in ms since 1970
local now, wall = read_clock(ARGV[1])
return {now, wall}
