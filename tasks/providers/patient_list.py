"""A patient's list of records: read by one worker at a time, kept for some minutes, and shared by all who need it.

A chart may have thousands of records, of which a page shows a hundred. So the whole list is read once. What a rate
limit or a kill interrupts goes on where it stopped, in whatever worker comes next. After that only the end at which
new records appear is read. Of a record only id and size are kept.

A list may move while its pages are turned, or announce more than it shows. It is complete if

1.  one reading shows as many records as it announces, or
2.  several readings together do (each page may have had another order), or
3.  three readings, with pauses between them, show exactly the same: then the records that are announced and not shown
    are `unseen`, and whoever uses the list must reckon with them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic

from tasks.model.errors import RetryLater, StepError
from tasks.providers.connection import Cache
from tasks.providers.list_reading import Entries, R, Reading
from tasks.providers.pages import MOST_RECORDS, Page, Pages, not_adding_up, too_long, too_many

_FRESH_SECONDS = 5.0  # one reading serves all documents that are sent within so many seconds
_KEPT_SECONDS = 600.0
TURN_SECONDS = 30.0  # longer than a page takes; a killed reader's turn passes to another after it
_SAVED_EVERY = 10  # pages
_SHORT_WAIT_SECONDS, _SHORT_WAITS = 0.05, 20
_PAGE_SECONDS = 0.2  # a guess, for how long others should wait
_WAIT_SECONDS = (1.0, 20.0)
_PAUSE_SECONDS = 3.0  # after the first reading that does not add up; twice as long after the second that shows the same
_LASTING_SECONDS = 600.0
_ODD_SECONDS = 3600.0
_WHOLE_RECORDS = 500  # of one reading, in memory


@dataclass(frozen=True, slots=True)
class Known(Generic[R]):
    """What is known of the list. `record` gives a whole record if it was read just now, else one of id and size."""

    entries: Entries
    record: Callable[[str], R]
    # How many records the list says that it has, if it says so.
    announced: int | None
    # How many of these it never shows.
    unseen: int
    complete: bool


class PatientList(Generic[R]):
    """One patient's list. `bare` makes a record of id and size. `scope` and `patient` may hold patient data."""

    def __init__(
        self, cache: Cache, pages: Pages[R], scope: str, patient: str, bare: Callable[[str, int | None], R]
    ) -> None:
        self._cache = cache
        self._pages = pages
        self._topic = f"list {scope}"
        self._patient = patient
        self._bare = bare
        self._whole: dict[str, R] = {}

    def complete(self, *, fresh_seconds: float = _FRESH_SECONDS) -> Known[R]:
        """All records, as they were less than `fresh_seconds` ago.

        Raises RetryLater while another reads the list, when a rate limit interrupts it, and while it does not add up.
        """
        kept = None
        for _ in range(_SHORT_WAITS):
            with self._cache.lock_if_free(self._topic, self._patient, TURN_SECONDS) as hold:
                kept = self._load()
                if kept and kept.complete and fresh_seconds and self._is_fresh(kept):
                    return self._known(kept)
                if hold:
                    self._ensure_paused(kept)
                    return self._known(self._completed(kept, hold))
            if kept and not kept.complete:
                break
            time.sleep(_SHORT_WAIT_SECONDS)
        raise self._being_read(kept)

    def read_alone(self) -> Known[R]:
        """All records, and nothing of them was kept from before this began. Raises RetryLater as `complete` does.

        It needs a scope of its own; what an interrupted reading has kept is gone once it is complete.
        """
        known = self.complete(fresh_seconds=0)
        self._cache.drop(self._topic, self._patient)
        return known

    def latest(self) -> Known[R]:
        """The records as they are now; not all of them while the list does not add up. Raises RetryLater."""
        kept = self._load()
        if kept is None or not kept.long:
            kept = self._begun()
            self._read_page(kept)
            if not kept.query:
                kept.end()
                return self._known(kept)
            self._save(kept)
        elif kept.complete and self._refresh(kept):
            return self._known(kept)
        with self._cache.lock_if_free(self._topic, self._patient, TURN_SECONDS) as hold:
            if hold is None:
                raise self._being_read(kept)
            kept = self._load()
            if kept is None or kept.complete:  # and has moved since
                kept = self._begun()
            self._read_to_the_end(kept, hold)
        return self._known(kept)

    def shows(self, record_id: str) -> bool:
        """Whether the list still has this record. Raises RetryLater as `complete` does."""
        kept = self._load()
        number = kept.page_of(record_id) if kept and kept.long else None
        if number is not None:
            page = self._pages.page(number, self._pages.numbered(number))
            if any(record.id == record_id for record in page.records):
                return True
            self._cache.drop(self._topic, self._patient)
        return record_id in self.complete(fresh_seconds=0).entries

    # --- reading the whole list ------------------------------------------------------------------------------

    def _completed(self, kept: Reading | None, hold: Callable[[], object]) -> Reading:
        """What was kept, read on until it is complete."""
        if kept and kept.complete:
            if kept.long and self._refresh(kept):
                return kept
            kept = None
        kept = kept or self._begun()
        self._read_to_the_end(kept, hold)
        if not kept.complete:
            self._cache.put(f"pause {self._topic}", self._patient, "1", kept.same * _PAUSE_SECONDS)
            raise self._not_adding_up()
        return kept

    def _ensure_paused(self, kept: Reading | None) -> None:
        """Raises RetryLater if the list did not add up just now: it gets time to come to rest."""
        ended = kept and not kept.complete and not kept.query
        if ended and self._cache.get(f"pause {self._topic}", self._patient) is not None:
            raise self._not_adding_up()

    def _begun(self) -> Reading:
        return Reading(page=1, query=self._pages.numbered(1))

    def _read_to_the_end(self, kept: Reading, hold: Callable[[], object]) -> None:
        """One reading of the list, or what is left of one. What an error interrupts is kept."""
        if not kept.query:
            kept.begin_again(self._pages.numbered(1))
        try:
            while kept.query:
                self._read_page(kept)
                if kept.query:
                    hold()
                if kept.query and kept.page % _SAVED_EVERY == 2:
                    self._save(kept)
        except StepError:
            if kept.page > 1 or kept.earlier:
                self._save(kept)
            raise
        kept.end()
        self._save(kept)

    def _read_page(self, kept: Reading) -> None:
        """Read the next page. Raises DocumentRefused if there are too many."""
        if kept.page > self._pages.most:
            raise too_long(self._pages.provider, self._pages.most)
        if kept.page > 1:
            self._pages.limiter()
        page = self._pages.page(kept.page, kept.query)
        self._remember(page.records)
        kept.add(page, self._pages)

    # --- reading what is new -----------------------------------------------------------------------------------

    def _refresh(self, kept: Reading) -> bool:
        """Add what is new. False if the list has moved in another way than by new records at one of its ends."""
        if not kept.regular:
            return False
        new = self._new_in_front(kept, None) if kept.newest_first else self._new_at_the_end(kept)
        if new is None:
            return False
        if kept.newest_first:
            kept.listed = new | kept.listed
        else:
            kept.listed |= new
        if kept.announced is not None:
            kept.announced += len(new)
        if new:
            self._save(kept)
        else:
            self._note_fresh()
        return True

    def _new_at_the_end(self, kept: Reading) -> dict[str, int | None] | None:
        """By the last known page and those after it; if they do not fit, by the first: then the newest come first.

        None if neither fits.
        """
        number, ids = kept.last_page, list(kept.listed)
        last = page = self._pages.page(number, self._pages.numbered(number))
        self._remember(page.records)
        if number == 1:  # which was not full before
            kept.per_page = len(page.records)
        expected = ids[(number - 1) * kept.per_page :]
        new: dict[str, int | None] = {}
        if _ids(page)[: len(expected)] == expected:
            new = _sizes(page, besides=kept.listed)
            seen = len(ids) + kept.unseen
            while query := self._pages.following(page, number, seen=seen + len(new), of=last.total):
                number += 1
                page = self._pages.page(number, query)
                self._remember(page.records)
                if not (more := _sizes(page, besides=kept.listed | new)):
                    break
                new |= more
                self._check_count(kept, new)
            if _adds_up(kept, last, new) and (new or last.total is not None):
                return new
        in_front = self._new_in_front(kept, last)
        if in_front:
            kept.newest_first = True
            return in_front
        # Without a total, both ends are as they were.
        return new if in_front is not None and last.total is None and _ids(last)[: len(expected)] == expected else None

    def _new_in_front(self, kept: Reading, last: Page[R] | None) -> dict[str, int | None] | None:
        """What comes before the first known record. `last`: the last known page, which must have moved as far."""
        ids, new = list(kept.listed), dict[str, int | None]()
        number, query = 1, self._pages.numbered(1)
        first = None
        while query:
            page = self._pages.page(number, query)
            first = first or page
            if number == 1:
                kept.per_page = len(page.records)
            self._remember(page.records)
            more = _sizes(page, besides=kept.listed | new)
            known = _ids(page)[len(more) :]
            if known and (known != ids[: len(known)] or _ids(page)[: len(more)] != list(more)):
                return None
            new |= more
            self._check_count(kept, new)
            query = () if known or not more else self._pages.following(page, number, seen=len(new), of=first.total)
            number += 1
        if first is None or not _adds_up(kept, first, new):
            return None
        if last is not None and last.total is not None:
            begins = (kept.last_page - 1) * kept.per_page
            if _ids(last) != [*new, *ids][begins : begins + len(last.records)]:
                return None
        return new

    def _check_count(self, kept: Reading, new: Entries) -> None:
        """Raises DocumentRefused if the list has too many records."""
        if len(kept.listed) + len(new) > MOST_RECORDS:
            raise too_many(self._pages.provider)

    # --- what is kept ------------------------------------------------------------------------------------------

    def _known(self, kept: Reading) -> Known[R]:
        entries = kept.listed if kept.complete else kept.earlier | kept.listed
        return Known(
            entries,
            lambda record_id: self._whole.get(record_id) or self._bare(record_id, entries[record_id]),
            kept.announced,
            kept.unseen,
            kept.complete,
        )

    def _remember(self, records: Sequence[R]) -> None:
        if len(self._whole) > _WHOLE_RECORDS:
            self._whole.clear()
        self._whole |= {record.id: record for record in records}

    def _load(self) -> Reading | None:
        kept = self._cache.get(self._topic, self._patient)
        return Reading.load(kept) if kept else None

    def _save(self, kept: Reading) -> None:
        long = kept.long or not kept.complete
        self._cache.put(self._topic, self._patient, kept.dump(), _KEPT_SECONDS if long else _FRESH_SECONDS)
        if long and kept.complete:
            self._note_fresh()

    def _note_fresh(self) -> None:
        self._cache.put(f"fresh {self._topic}", self._patient, "1", _FRESH_SECONDS)

    def _is_fresh(self, kept: Reading) -> bool:
        return not kept.long or self._cache.get(f"fresh {self._topic}", self._patient) is not None

    def _being_read(self, kept: Reading | None) -> RetryLater:
        least, most = _WAIT_SECONDS
        left = max(0, (kept.announced or 0) - len(kept.listed)) / max(1, kept.per_page) if kept else 0
        wait = min(max(left * _PAGE_SECONDS, least), most)
        return RetryLater("Another document of this patient is reading the list of records.", after_seconds=wait)

    def _not_adding_up(self) -> RetryLater:
        """It lasts, if the first time is long ago, and the list was read at least once an hour since."""
        since = self._cache.get(f"odd {self._topic}", self._patient) or str(time.time())
        self._cache.put(f"odd {self._topic}", self._patient, since, _ODD_SECONDS)
        return not_adding_up(self._pages.provider, lasting=time.time() - float(since) >= _LASTING_SECONDS)


def _ids(page: Page[R]) -> list[str]:
    return [record.id for record in page.records]


def _sizes(page: Page[R], *, besides: Entries) -> dict[str, int | None]:
    return {record.id: record.size for record in page.records if record.id not in besides}


def _adds_up(kept: Reading, page: Page[R], new: Entries) -> bool:
    """Whether the list has grown by what is new, and by nothing else."""
    return page.total is None or kept.announced is None or page.total - kept.announced == len(new)
