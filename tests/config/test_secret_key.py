"""The secret key that is made on a machine whose settings name none."""

import multiprocessing
import multiprocessing.synchronize
import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from config.errors import SettingsError
from config.load import ensure_secret_key
from config.secret_key import read_or_make_key
from config.settings import Redis, Settings

ROUNDS = 60


def test_a_key_is_made_once_and_read_from_then_on(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "new" / "data")
    first = ensure_secret_key(settings).secret_key.get_secret_value()
    assert ensure_secret_key(settings).secret_key.get_secret_value() == first
    assert len(first) >= 43  # 32 bytes in base64
    assert ensure_secret_key(Settings(data_dir=tmp_path / "other")).secret_key.get_secret_value() != first


def test_the_key_file_is_for_its_owner_only_and_nothing_else_is_left(tmp_path: Path) -> None:
    ensure_secret_key(Settings(data_dir=tmp_path))
    (path,) = tmp_path.iterdir()
    assert path.name == "secret_key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_given_key_is_kept_and_no_file_is_made(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, secret_key=SecretStr("given"))
    assert ensure_secret_key(settings) is settings
    assert list(tmp_path.iterdir()) == []


def test_warnings_survive(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path).with_warnings(["careful"])
    assert ensure_secret_key(settings).warnings == ("careful",)


def test_no_key_is_made_for_a_redis_that_others_share(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, redis=Redis(url="redis://h"))
    with pytest.raises(SettingsError, match="secret_key is missing"):
        ensure_secret_key(settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff"])
def test_a_damaged_key_file_is_never_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret_key").write_bytes(content)
    with pytest.raises(SettingsError, match="secret_key"):
        ensure_secret_key(Settings(data_dir=tmp_path))
    assert (tmp_path / "secret_key").read_bytes() == content


@pytest.mark.parametrize("earlier", ["valkey/appendonlydir/appendonly.aof.manifest", "processing/a-job/job.json"])
def test_no_key_is_made_beside_data_from_before(tmp_path: Path, earlier: str) -> None:
    (tmp_path / earlier).parent.mkdir(parents=True)
    (tmp_path / earlier).write_text("")
    with pytest.raises(SettingsError, match=r"secret_key is missing, and .* is from before: restore"):
        ensure_secret_key(Settings(data_dir=tmp_path))
    assert not (tmp_path / "secret_key").exists()
    (tmp_path / "secret_key").write_text("the old key\n")
    assert ensure_secret_key(Settings(data_dir=tmp_path)).secret_key.get_secret_value() == "the old key"


def test_empty_folders_are_no_data_from_before(tmp_path: Path) -> None:
    for name in ("processing", "valkey/appendonlydir", "inbox/north_clinic"):
        (tmp_path / name).mkdir(parents=True)
    assert ensure_secret_key(Settings(data_dir=tmp_path)).secret_key.get_secret_value()


def test_a_folder_that_cannot_be_made_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be made or read"):
        ensure_secret_key(Settings(data_dir=tmp_path / "file" / "data"))


def take_keys(
    folder: Path,
    together: multiprocessing.synchronize.Barrier,
    found: "multiprocessing.SimpleQueue[list[str]]",
) -> None:
    keys = []
    for number in range(ROUNDS):
        together.wait(120)
        keys.append(read_or_make_key(folder / str(number)))
    found.put(keys)


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(2)
    found = context.SimpleQueue()
    processes = [context.Process(target=take_keys, args=(tmp_path, together, found)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert found.get() == found.get()
    assert {path.name for path in tmp_path.glob("*/*")} == {"secret_key"}
