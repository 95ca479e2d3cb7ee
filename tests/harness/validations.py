"""What an account's row in Redis says of its last validations."""

from __future__ import annotations

import redis

from tasks.ledger.keys import PREFIX
from tasks.ledger.validation_times import read_validations
from tasks.model.polling import Validation


def last_validations(client: redis.Redis, account: str) -> list[Validation]:
    return list(read_validations(str(client.hget(f"{PREFIX}account:{account}", "validations") or "")))
