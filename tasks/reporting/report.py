"""What became of documents in a time: from the jobs that are still there, and from the counts of days that are not.

Each whole day of UTC is told by its jobs, unless its roll-up has counted more: then some of them have left Redis, or
were sent again and ended on another day.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import redis

from tasks.ledger import keys
from tasks.model.errors import Code
from tasks.model.route import Stage
from tasks.model.times import from_ms, to_ms
from tasks.reporting.counts import Counts, Ending
from tasks.reporting.ended_jobs import EndedJob, EndedJobs
from tasks.reporting.roll_up import read_counts

_SLOWEST = 10
_DAY = timedelta(days=1)
_LONGEST = timedelta(days=3660)  # more than `retention.counts_days` can be
_HOURS_UP_TO = timedelta(days=2)
_DAYS_UP_TO = timedelta(days=92)
_MEDIAN, _MOST = 0.5, 0.95


@dataclass(frozen=True, slots=True)
class Waiting:
    """The documents of an account that have not ended, now."""

    documents: int
    # When the oldest of them came in.
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Group:
    """One line of a report. `account`, `code`: None if the report does not distinguish them; "" is no code."""

    account: str | None
    code: str | None
    documents: int
    delivered: int
    # Of those delivered: skipped, since the same document had been delivered before.
    duplicates: int
    failed: int
    cancelled: int
    provider_calls: int
    # From received to delivered, in seconds, without duplicates: half of the documents, and 95 % of them.
    median_seconds: float | None
    p95_seconds: float | None
    # None where codes are distinguished: what waits has none.
    waiting: Waiting | None


@dataclass(frozen=True, slots=True)
class Interval:
    """An hour, a day or a week of the report, and how many documents ended in it."""

    begins: datetime
    delivered: int
    failed: int
    cancelled: int


@dataclass(frozen=True, slots=True)
class Report:
    since: datetime
    until: datetime
    made_at: datetime
    accounts: Sequence[str]
    total: Group
    groups: Sequence[Group]
    # Those that failed, by account and code, the most frequent first.
    failures: Sequence[tuple[Ending, int]]
    # The jobs that took longest, of those that are still in Redis.
    slowest: Sequence[EndedJob]
    # hour, day or week; days and weeks are those of UTC.
    interval: str
    intervals: Sequence[Interval]
    # Upper bound of a class in seconds -> documents.
    classes: Counter[float]
    # The days that are told by their roll-up, since their jobs have left Redis.
    rolled_up: Sequence[date]
    # Median and 95 % rest on classes, at least in part.
    approximate: bool


class Reports:
    """`jobs_days` is how long jobs stay in Redis."""

    def __init__(self, client: redis.Redis, *, jobs_days: int) -> None:
        self._redis = client
        self._jobs_days = jobs_days
        self._ended = EndedJobs(client)

    def make(
        self, since: datetime, until: datetime, accounts: Collection[str] = (), by: Collection[str] = ()
    ) -> Report:
        """The report of a time in UTC. `accounts`: of these alone. `by`: "account" and "code", what groups distinguish.

        A time that begins or ends within a day whose jobs have left Redis has that whole day.
        """
        seconds, microseconds = map(int, self._redis.time())
        now = datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=microseconds)
        since, until = max(since, now - _LONGEST), min(until, now)
        kept_since = now - timedelta(days=self._jobs_days)
        since = _midnight(since) if since < kept_since else since
        until = _midnight(until + _DAY - timedelta(microseconds=1)) if until < kept_since else max(until, since)

        days, hours, slowest = self._by_jobs(since, until, accounts)
        rolled_up = self._use_roll_ups(days, since, until)
        counts = Counts()
        for day in days.values():
            counts.update(day)
        known = sorted(accounts or {*counts.accounts, *self._accounts()})
        counts = counts.of(known)
        waiting = {account: self._waiting(account) for account in known}
        interval, intervals = _intervals(since, until, {day: each.of(known) for day, each in days.items()}, hours)
        return Report(
            since=since,
            until=until,
            made_at=now,
            accounts=known,
            total=_group(counts, _all(waiting.values())),
            groups=list(_groups(counts, waiting, by)),
            failures=list(counts.failures()),
            slowest=slowest,
            interval=interval,
            intervals=intervals,
            classes=counts.classes(),
            rolled_up=rolled_up,
            approximate=counts.approximate,
        )

    def _by_jobs(
        self, since: datetime, until: datetime, accounts: Collection[str]
    ) -> tuple[dict[date, Counts], dict[datetime, Counts], list[EndedJob]]:
        """By day, by hour if the time is short, and those that took longest."""
        days: dict[date, Counts] = {}
        hours: dict[datetime, Counts] = {}
        slowest: list[tuple[float, str, EndedJob]] = []
        for job in self._ended.between(to_ms(since), to_ms(until)):
            at = from_ms(job.ended_ms)
            days.setdefault(at.date(), Counts()).add(job)
            if accounts and job.account not in accounts:
                continue
            if until - since <= _HOURS_UP_TO:
                hours.setdefault(at.replace(minute=0, second=0, microsecond=0), Counts()).add(job)
            if job.seconds is not None:
                heapq.heappush(slowest, (job.seconds, job.job_id, job))
                if len(slowest) > _SLOWEST:
                    heapq.heappop(slowest)
        return days, hours, [job for _, _, job in sorted(slowest, reverse=True)]

    def _use_roll_ups(self, days: dict[date, Counts], since: datetime, until: datetime) -> list[date]:
        """Put the roll-ups of whole days in the place of those days of which jobs have left. Returns these days."""
        whole, used = list(_whole_days(since, until)), []
        for day, counts in read_counts(self._redis, whole).items():
            if day not in days or counts.total > days[day].total:
                days[day] = counts
                used.append(day)
        return used

    def _accounts(self) -> list[str]:
        return [str(name) for name in self._redis.smembers(keys.ACCOUNTS)]

    def _waiting(self, account: str) -> Waiting:
        oldest = self._redis.zrange(keys.open_jobs(account), 0, 0, withscores=True)
        return Waiting(int(self._redis.zcard(keys.open_jobs(account))), from_ms(oldest[0][1]) if oldest else None)


def _groups(counts: Counts, waiting: dict[str, Waiting], by: Collection[str]) -> Iterator[Group]:
    if "account" in by:
        for account in waiting:
            of_account = counts.of([account])
            if "code" in by:
                yield from _codes(of_account, account)
            else:
                yield _group(of_account, waiting[account], account)
    elif "code" in by:
        yield from _codes(counts, None)


def _codes(counts: Counts, account: str | None) -> Iterator[Group]:
    for code in sorted({ending.code for ending in counts.documents}):
        of_code = counts.with_code(code)
        yield _group(of_code, None, account, code)


def _group(counts: Counts, waiting: Waiting | None, account: str | None = None, code: str | None = None) -> Group:
    return Group(
        account=account,
        code=code,
        documents=counts.total,
        delivered=counts.number(Stage.DELIVERED),
        duplicates=counts.number(Stage.DELIVERED, Code.DUPLICATE),
        failed=counts.number(Stage.FAILED),
        cancelled=counts.number(Stage.CANCELLED),
        provider_calls=counts.provider_calls.total(),
        median_seconds=counts.quantile(_MEDIAN),
        p95_seconds=counts.quantile(_MOST),
        waiting=waiting,
    )


def _all(waiting: Collection[Waiting]) -> Waiting:
    oldest = min((each.oldest for each in waiting if each.oldest), default=None)
    return Waiting(sum(each.documents for each in waiting), oldest)


def _intervals(
    since: datetime, until: datetime, days: dict[date, Counts], hours: dict[datetime, Counts]
) -> tuple[str, list[Interval]]:
    """All of the time, also those in which nothing ended."""
    if until - since <= _HOURS_UP_TO:
        first = since.replace(minute=0, second=0, microsecond=0)
        count = int((until - first) / timedelta(hours=1)) + 1
        starts = [first + timedelta(hours=number) for number in range(count)]
        return "hour", [_interval(start, hours.get(start, Counts())) for start in starts if start < until]
    length = 1 if until - since <= _DAYS_UP_TO else 7
    first_day = since.date() - timedelta(days=since.weekday() if length == 7 else 0)
    found = []
    while _midnight_of(first_day) < until:
        counts = Counts()
        for number in range(length):
            counts.update(days.get(first_day + timedelta(days=number), Counts()))
        found.append(_interval(_midnight_of(first_day), counts))
        first_day += timedelta(days=length)
    return ("day" if length == 1 else "week"), found


def _interval(begins: datetime, counts: Counts) -> Interval:
    ended = (counts.number(stage) for stage in (Stage.DELIVERED, Stage.FAILED, Stage.CANCELLED))
    return Interval(begins, *ended)


def _whole_days(since: datetime, until: datetime) -> Iterator[date]:
    day = _midnight(since + _DAY - timedelta(microseconds=1)).date()
    while _midnight_of(day) + _DAY <= until:
        yield day
        day += _DAY


def _midnight(moment: datetime) -> datetime:
    """The beginning of that day of UTC."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _midnight_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
