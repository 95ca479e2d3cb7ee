"""Folders and buckets of callers: which are mistakes, how they are written, and what a producer's section must hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.celery import entry_queues, producer_of_queue
from config.roots import FileRoot
from tests.config.conftest import Problems, Read

ACCOUNT = '\n[accounts.north]\nprovider = "pracsuite"\nvendor_api_key = "v"\napi_key = "k"\n'


@pytest.mark.parametrize(
    ("root", "touches"),
    [
        ("data", "is"),
        ("data/../data", "is"),
        ("link", "is"),
        (".", "holds"),
        ("data/delivered", "lies in"),
        ("data/processing/1", "lies in"),
        ("link/inbox", "lies in"),
        ("out/back/inbox", "lies in"),
    ],
)
def test_a_root_that_touches_data_dir_is_a_mistake_however_it_is_written(
    tmp_path: Path, problems: Problems, root: str, touches: str
) -> None:
    (tmp_path / "data" / "inbox").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("data")
    (tmp_path / "out" / "back").symlink_to("../data")
    lines = [f'file_roots = ["{tmp_path / root}"]\n{ACCOUNT}', producer(f'file_roots = ["{tmp_path / root}"]')]
    for key, toml in zip(("file_roots[0]", "producers.lab.file_roots[0]"), lines, strict=True):
        found = problems(f'data_dir = "{tmp_path / "data"}"\n{toml}')
        assert any(problem.startswith(f"{key} {touches} data_dir") for problem in found), found


def test_folders_apart_from_data_dir_are_taken(tmp_path: Path, read: Read) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data-of-others").mkdir()
    settings = read(f'data_dir = "{tmp_path / "data"}"\nfile_roots = ["{tmp_path / "data-of-others"}"]')
    assert settings.file_roots == (FileRoot(path=tmp_path / "data-of-others"),)


def test_a_root_that_holds_the_settings_or_a_secret_is_a_mistake(tmp_path: Path, problems: Problems) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "key").write_text("k")
    toml = f'secret_key_file = "{tmp_path / "etc" / "key"}"\nfile_roots = ["{tmp_path / "etc"}"]'
    assert any("holds a file with a secret" in problem for problem in problems(toml))


def test_whether_sources_may_be_removed_is_said_of_each_root(read: Read) -> None:
    settings = read(
        'file_roots = ["/a", {path = "/b", delete = true}]\ns3_buckets = [{name = "c1", delete = true}, "d1"]'
    )
    assert [(str(root.path), root.delete) for root in settings.file_roots] == [("/a", False), ("/b", True)]
    assert [(bucket.name, bucket.delete) for bucket in settings.s3_buckets] == [("c1", True), ("d1", False)]


def test_the_bucket_of_staged_documents_is_shared_only_with_a_prefix(read: Read, problems: Problems) -> None:
    read('s3_buckets = ["scans"]\n[s3]\nstage_inbox = "s3://scans/staged"')
    assert any(
        "s3_buckets[0] is the bucket of s3.stage_inbox" in one
        for one in problems('s3_buckets = ["scans"]\n[s3]\nstage_inbox = "s3://scans"')
    )


def producer(lines: str, name: str = "lab", top: str = "") -> str:
    return f'{top}\n[producers.{name}]\naccounts = ["north"]\n{lines}\n{ACCOUNT}'


def test_a_producer_has_a_queue_of_its_own(read: Read) -> None:
    settings = read(producer("allow_unblock = true") + '[producers.shared]\naccounts = ["north"]')
    assert entry_queues(settings.producers) == ["chartpost", "chartpost.from.lab"]
    assert settings.producers["lab"].allow_unblock
    assert [producer_of_queue(name) for name in ("chartpost", "chartpost.stages", "chartpost.from.lab")] == [
        None,
        None,
        "lab",
    ]


@pytest.mark.parametrize("name", ["rejected", "Lab", "1st", "a-b", "a" * 65, '"a.b"', '""'])
def test_a_producers_name_is_a_lower_case_word_and_no_stream_of_ours(problems: Problems, name: str) -> None:
    found = problems(producer("", name))
    assert len(found) == 1
    assert "name for a producer" in found[0] or "must not be called rejected" in found[0]


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        (ACCOUNT + "[producers.lab]", "producers.lab.accounts is missing"),
        (
            ACCOUNT + '[producers.lab]\naccounts = ["nroth"]',
            "producers.lab.accounts[0] is not an account: did you mean north?",
        ),
        (ACCOUNT + '[producers.lab]\naccounts = ["north"]\nroots = []', "producers.lab.roots is not a setting"),
        (producer("", top='file_roots = ["/a"]'), "file_roots is for callers without a producer"),
        (producer("", top='s3_buckets = ["scans"]'), "s3_buckets is for callers without a producer"),
    ],
)
def test_a_producers_mistakes_are_named(problems: Problems, toml: str, problem: str) -> None:
    assert any(one.startswith(problem) for one in problems(toml)), problems(toml)


def test_a_producer_may_come_from_the_environment(read: Read) -> None:
    environ = {
        "CHARTPOST_PRODUCERS__LAB__ACCOUNTS": "north",
        "CHARTPOST_PRODUCERS__LAB__FILE_ROOTS": '[{"path": "/a", "delete": true}]',
    }
    settings = read(ACCOUNT, environ)
    assert settings.warnings == ()
    assert settings.producers["lab"].file_roots == (FileRoot(path=Path("/a"), delete=True),)


def test_producers_that_can_read_each_others_folders_are_warned_about(read: Read) -> None:
    toml = producer('file_roots = ["/srv/lab"]') + '[producers.other]\naccounts = ["north"]\nfile_roots = ["/srv"]'
    assert any("overlap" in warning for warning in read(toml).warnings)
