"""How often somebody may try passwords: counted in Redis for each name and address, so that all processes know."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

import redis

from tasks.ledger import keys
from tasks.ledger.seal import Seal

WINDOW_SECONDS = 900
# Of one name from one address; of one address; of one name from everywhere.
_OF_BOTH, _OF_ADDRESS, _OF_NAME = 10, 50, 200
_KNOWN_SECONDS = 30 * 86400


class LoginLimit:
    """Counts wrong passwords in windows of WINDOW_SECONDS. Its methods raise REDIS_ERRORS.

    A stranger who fails under a person's name, from however many addresses, does not lock that person out: an address
    from which they have logged in within thirty days is not held to the limit of the name.
    """

    def __init__(self, client: redis.Redis, seal: Seal) -> None:
        self._redis = client
        self._seal = seal

    def take(self, name: str, address: str) -> bool:
        """Count a try before its password is looked at. False: too many, so it must not be looked at."""
        place = _place(address)
        both, of_address, of_name, known = self._keys(name, place)
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.exists(known)
            for key in (both, of_address, of_name):
                pipe.set(key, 0, nx=True, ex=WINDOW_SECONDS)
                pipe.incr(key)
            is_known, _, with_both, _, with_address, _, with_name = pipe.execute()
        return bool(with_both <= _OF_BOTH and with_address <= _OF_ADDRESS and (is_known or with_name <= _OF_NAME))

    def forget(self, name: str, address: str) -> None:
        """The password was right: this try does not count. A whole clinic may come from one address."""
        both, of_address, of_name, known = self._keys(name, _place(address))
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(both)
            for key in (of_address, of_name):
                pipe.set(key, 1, nx=True, ex=WINDOW_SECONDS)  # its window has just ended
                pipe.decr(key)
            pipe.set(known, 1, ex=_KNOWN_SECONDS)
            pipe.execute()

    def _keys(self, name: str, place: str) -> tuple[str, str, str, str]:
        return (
            self._key("both", name, place),
            self._key("address", place),
            self._key("name", name),
            self._key("known", name, place),
        )

    def _key(self, *parts: str) -> str:
        return keys.web_logins(self._seal.lookup("web login", *parts))


def _place(address: str) -> str:
    """What one subscriber has: an IPv4 address, or a /64 of IPv6, in which a machine may take any address."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((known, 64), strict=False)) if isinstance(known, IPv6Address) else address
