"""Who is logged in: sessions in Redis, known to the browser by a random token, and to Redis by its HMAC alone."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import redis

from tasks.ledger import keys
from tasks.ledger.seal import Seal, SealBroken
from worker.web.users import User

_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Session:
    # What Redis knows it by.
    digest: str
    user: str
    # The stamp of the user when it began.
    stamp: str
    # When it ends at the latest, in seconds since the epoch.
    ends_at: float


class Sessions:
    """`idle_seconds`: a session ends when nothing was asked for so long; `longest_seconds`: at the latest."""

    def __init__(
        self,
        client: redis.Redis,
        seal: Seal,
        *,
        idle_seconds: int,
        longest_seconds: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._redis = client
        self._seal = seal
        self._idle_seconds = idle_seconds
        self._longest_seconds = longest_seconds
        self._clock = clock

    def begin(self, user: User) -> str:
        """Begin a session, and return its token. Raises REDIS_ERRORS, as all of these do."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        session = Session(self._digest(token), user.name, user.stamp, self._clock() + self._longest_seconds)
        self._keep(session)
        return token

    def find(self, token: str, *, renew: bool = True) -> Session | None:
        """The session of this token; None if there is none any more. With `renew` its idle time begins again."""
        digest = self._digest(token)
        key = keys.web_session(digest)
        sealed = self._redis.get(key)
        if sealed is None:
            return None
        try:
            user, stamp, ends_at = json.loads(self._seal.open(str(sealed), place=key))
        except SealBroken:  # of another secret_key
            return None
        left = ends_at - self._clock()
        if not 0 < left <= self._longest_seconds:  # more is left than it was given: the clock was set back since
            self._redis.delete(key)
            return None
        if renew:
            self._redis.expire(key, self._lifetime(ends_at))
        return Session(digest, user, stamp, ends_at)

    def end(self, session: Session) -> None:
        self._redis.delete(keys.web_session(session.digest))

    def _keep(self, session: Session) -> None:
        key = keys.web_session(session.digest)
        text = json.dumps([session.user, session.stamp, session.ends_at])
        self._redis.set(key, self._seal.seal(text, place=key), ex=self._lifetime(session.ends_at))

    def _lifetime(self, ends_at: float) -> int:
        return max(1, min(self._idle_seconds, int(ends_at - self._clock())))

    def _digest(self, token: str) -> str:
        return self._seal.lookup("web session", token)
