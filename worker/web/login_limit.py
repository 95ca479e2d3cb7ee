"""How often somebody may try passwords: counted in Redis for each name and address, so that all processes know."""

from __future__ import annotations

import redis

from tasks.ledger import keys
from tasks.ledger.seal import Seal

WINDOW_SECONDS = 900
# Of one name from one address; of one address; of one name from everywhere. The last is high, or a stranger could
# lock a person out by failing under their name.
_OF_BOTH, _OF_ADDRESS, _OF_NAME = 10, 50, 200


class LoginLimit:
    def __init__(self, client: redis.Redis, seal: Seal) -> None:
        self._redis = client
        self._seal = seal

    def take(self, name: str, address: str) -> bool:
        """Count a try before its password is looked at. False: too many, so it must not be looked at."""
        counters = [(self._key("both", name, address), _OF_BOTH)]
        counters += [(self._key("address", address), _OF_ADDRESS), (self._key("name", name), _OF_NAME)]
        with self._redis.pipeline(transaction=True) as pipe:
            for key, _ in counters:
                pipe.set(key, 0, nx=True, ex=WINDOW_SECONDS)
                pipe.incr(key)
            counts = pipe.execute()[1::2]
        return all(int(count) <= most for count, (_, most) in zip(counts, counters, strict=True))

    def forget(self, name: str, address: str) -> None:
        """The password was right."""
        self._redis.delete(self._key("both", name, address))

    def _key(self, *parts: str) -> str:
        return keys.web_logins(self._seal.lookup("web login", *parts))
