-- When a lease ends that begins or is renewed now: the ledger's time in ms.
--
-- Slot and due entry of a job end with its lease. Where both were written a moment ago, the lease takes over their time,
-- and they need not be written again: it is shorter by a tenth at most. The holder is told when it ends, and renews it
-- long before.
--
-- lasts    until when slot and due entry last; nil if they do not end together
-- Returns  when it ends, and true if that is `lasts`
local function lease_end(now, lease, lasts)
  lasts = tonumber(lasts)
  if lasts and lasts >= now + lease * 0.9 and lasts <= now + lease then return lasts, true end
  return now + lease, false
end

