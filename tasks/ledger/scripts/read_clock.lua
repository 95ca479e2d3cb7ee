-- Read the ledger's clock.
--
-- ARGV[1]  key prefix
-- Returns  {the ledger's time, Redis's time}, in ms since 1970
return {read_clock(ARGV[1])}
