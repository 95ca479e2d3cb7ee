"""TODO"""

from __future__ import annotations

from typing import Any

from tasks.ledger.redis import PREFIX
from tasks.runtime import Runtime

STREAM = PREFIX + "intake"
REJECTED = PREFIX + "intake:rejected"
GROUP = "chartpost"
_REJECT = """
-- ARGV: prefix, group, entry, job, code, reason, sealed message, oldest to keep in ms, seconds, then the event.
-- Only whoever acknowledges it writes it down, so that it stands among the rejected once.
local stream = ARGV[1] .. 'intake'
if redis.call('XACK', stream, ARGV[2], ARGV[3]) == 0 then return 0 end
redis.call('XDEL', stream, ARGV[3])
local rejected = redis.call('XADD', stream .. ':rejected', 'MINID', '~', ARGV[8], '*',
  'id', ARGV[3], 'code', ARGV[5], 'reason', ARGV[6], 'message', ARGV[7])
redis.call('SET', ARGV[1] .. 'rejected:' .. ARGV[4], rejected, 'EX', ARGV[9])
if ARGV[10] then
  redis.call('XADD', ARGV[1] .. 'events', 'MAXLEN', '~', 10000, '*', unpack(ARGV, 10))
end
return 1
"""


def rejected_entry(runtime: Runtime, job_id: str) -> dict[str, str] | None:
    """What stands among the rejected about a job's id, with the message opened. Raises SealBroken."""
    place = runtime.redis.get(_pointer(job_id))
    found: Any = runtime.redis.xrange(REJECTED, str(place), str(place)) if place else []
    for _, fields in found:
        message = runtime.seal.open(fields["message"], place=f"rejected:{fields['id']}")
        return {**fields, "message": message}
    return None


def _pointer(job_id: str) -> str:
    """Names the entry among the rejected that tells of a job; empty while that is still being written."""
    return f"{PREFIX}rejected:{job_id}"
