"""docs/licences.md names every package of the lock file, and for each the licence that its metadata names."""

from __future__ import annotations

from tests.docs.licences import ELSEWHERE, PAGE, licence, locked
from tests.docs.pages import rows


def named() -> dict[str, tuple[str, str]]:
    """Package -> version and licence, as the page has them."""
    return {cells[0]: (cells[1], cells[2]) for cells in rows(PAGE.read_text()) if len(cells) == 3}


def test_every_locked_package_is_on_the_page_with_its_version() -> None:
    assert {name: version for name, (version, _) in named().items()} == locked()


def test_every_licence_is_the_one_in_the_package() -> None:
    here = {name: told for name in locked() if (told := licence(name))}
    assert {name: told for name, (_, told) in named().items() if name in here and told != ELSEWHERE} == here


def test_each_package_has_a_licence_and_none_asks_for_more_than_to_be_named() -> None:
    licences = {name: told for name, (_, told) in named().items()}
    assert not [name for name, told in licences.items() if told == "not named"]
    # A package under two licences may be taken under the other one.
    assert not [name for name, told in licences.items() if "GPL" in told and " OR " not in told]


def test_the_lock_files_hold_a_hash_for_everything_and_no_address() -> None:
    for lock in (PAGE.parent.parent / name for name in ("requirements.lock", "requirements-dev.lock")):
        entries = lock.read_text().replace("\\\n", " ").splitlines()
        assert len(entries) > 40
        assert all("--hash=sha256:" in entry for entry in entries if entry.strip())
        assert "://" not in lock.read_text()
