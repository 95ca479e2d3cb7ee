"""Files: which are taken, and that they are read as they were when they were accepted."""

from __future__ import annotations

import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.model.errors import Code, DocumentRefused, StepError
from tasks.sources.files import Files, path_of
from tests.tasks.sources.addresses import file_address


def put(root: Path, name: str = "a.pdf", content: bytes = b"content") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def refusal(act: Callable[[], object]) -> Code:
    with pytest.raises(DocumentRefused) as refused:
        act()
    assert refused.value.hint
    assert "patient-4711" not in "".join(traceback.format_exception(refused.value, limit=0))
    return refused.value.code


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("file:///a/b.pdf", "/a/b.pdf"),
        ("FILE://localhost/a/b.pdf", "/a/b.pdf"),
        ("file:///a%20b/100%25/%C3%BC%3F%23.pdf", "/a b/100%/ü?#.pdf"),
        ("file:///a b/ü.pdf", "/a b/ü.pdf"),
        ("file:///a%FF.pdf", "/a\udcff.pdf"),
        ("file:///a+b.pdf", "/a+b.pdf"),
    ],
)
def test_a_file_address_is_percent_decoded(address: str, path: str) -> None:
    assert path_of(address) == path


@pytest.mark.parametrize(
    "address",
    [
        "file:/a/b",
        "file://server/share/a",
        "file://a",
        "file://",
        "file:///a?b",
        "file:///a#b",
        "file:///a%00b",
        "file:///a%0",
        "file:///a%zz",
        "file:///a\udcff",
        "/a/b",
        "",
        "http://a/b",
    ],
)
def test_any_other_address_is_an_invalid_request(address: str, files: Files) -> None:
    assert refusal(lambda: files.locate(address)) is Code.INVALID_REQUEST


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name))
def test_every_name_survives_the_way_through_its_address(name: bytes) -> None:
    path = b"/" + name
    assert os.fsencode(path_of(file_address(path))) == path
    assert file_address(path).isascii()


@given(st.text(max_size=60) | st.text("file:/%?#0aé\udcff.\n", max_size=40).map("file://".__add__))
def test_no_address_raises_anything_but_our_errors(address: str) -> None:
    with pytest.raises(StepError):
        Files([Path("/nowhere/at/all")]).locate(address)


# --- which are taken -------------------------------------------------------------------------------------------------


def test_a_file_inside_a_root_is_located_with_its_size_and_name(root: Path, files: Files) -> None:
    path = put(root, "patient-4711/Über weisung.pdf", b"12345")
    located = files.locate(file_address(path))
    assert (located.size_bytes, located.file_name) == (5, "Über weisung.pdf")


def test_a_name_that_is_not_utf8_is_found(root: Path, files: Files) -> None:
    path = os.fsencode(root) + b"/caf\xe9.pdf"
    with open(path, "wb") as file:  # noqa: PTH123 (bytes)
        file.write(b"x")
    assert os.fsencode(files.locate(file_address(path)).file_name) == b"caf\xe9.pdf"


def test_a_folder_may_be_a_symlink_as_long_as_it_leads_inside(root: Path, files: Files) -> None:
    put(root, "real/a.pdf")
    (root / "link").symlink_to("real")
    assert files.locate(file_address(root / "link" / "a.pdf")).size_bytes == 7


def test_a_root_may_itself_be_a_symlink(tmp_path: Path, root: Path) -> None:
    put(root, "a.pdf")
    (tmp_path / "alias").symlink_to(root)
    assert Files([tmp_path / "alias"]).locate(file_address(tmp_path / "alias" / "a.pdf"))
    assert Files([tmp_path / "alias"]).locate(file_address(root / "a.pdf"))


@pytest.mark.parametrize(
    "path", ["outside/a.pdf", "root/../outside/a.pdf", "rootless/a.pdf", "root/escape/a.pdf", "root"]
)
def test_nothing_outside_the_roots_is_taken(tmp_path: Path, root: Path, files: Files, path: str) -> None:
    put(tmp_path, "outside/a.pdf")
    put(tmp_path, "rootless/a.pdf")
    (root / "escape").symlink_to(tmp_path / "outside")
    assert refusal(lambda: files.locate(f"file://{tmp_path}/{path}")) is Code.SOURCE_NOT_ALLOWED


def test_whether_a_file_outside_exists_is_not_told(tmp_path: Path, files: Files) -> None:
    assert refusal(lambda: files.locate(file_address(tmp_path / "none.pdf"))) is Code.SOURCE_NOT_ALLOWED


def test_without_roots_nothing_is_taken(root: Path) -> None:
    assert refusal(lambda: Files([]).locate(file_address(put(root)))) is Code.SOURCE_NOT_ALLOWED


def make_symlink(path: Path) -> None:
    path.with_name("real.pdf").write_bytes(b"x")
    path.symlink_to("real.pdf")


def make_symlink_out(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path must be short
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


@pytest.mark.parametrize("make", [make_symlink, make_symlink_out, make_socket, os.mkfifo, Path.mkdir])
def test_what_is_not_a_regular_file_is_refused_without_waiting(
    root: Path, files: Files, make: Callable[[Path], None]
) -> None:
    make(root / "a.pdf")
    assert refusal(lambda: files.locate(file_address(root / "a.pdf"))) is Code.NOT_A_REGULAR_FILE


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
def test_devices_are_refused(device: str) -> None:
    assert refusal(lambda: Files([Path("/dev")]).locate(f"file://{device}")) is Code.NOT_A_REGULAR_FILE


@pytest.mark.parametrize("ending", ["/", "/.", "/.."])
def test_a_folder_is_not_a_file_however_it_is_written(root: Path, files: Files, ending: str) -> None:
    put(root, "a/b.pdf")
    assert refusal(lambda: files.locate(file_address(root / "a") + ending)) is Code.NOT_A_REGULAR_FILE


@pytest.mark.parametrize("name", ["none.pdf", "a.pdf/none.pdf", "none/none.pdf", "x" * 300])
def test_a_file_that_is_not_there_is_missing(root: Path, files: Files, name: str) -> None:
    put(root, "a.pdf")
    assert refusal(lambda: files.locate(file_address(root / name))) is Code.FILE_MISSING


def test_an_empty_file_is_refused(root: Path, files: Files) -> None:
    assert refusal(lambda: files.locate(file_address(put(root, content=b"")))) is Code.FILE_EMPTY


@pytest.fixture
def nobody() -> Iterator[None]:
    """Root may read everything, so it becomes somebody else for a while."""
    me = os.geteuid()
    if me == 0:
        os.seteuid(65_534)
    yield
    os.seteuid(me)


def test_a_file_that_may_not_be_read_is_refused(root: Path, files: Files, request: pytest.FixtureRequest) -> None:
    path = put(root)
    path.chmod(0)
    request.getfixturevalue("nobody")
    assert refusal(lambda: files.locate(file_address(path))) is Code.SOURCE_NOT_ALLOWED


def test_what_counts_is_the_folder_that_was_opened(
    tmp_path: Path, root: Path, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is swapped for a symlink after the path was checked and before it is opened."""
    put(tmp_path, "outside/a.pdf")
    put(root, "folder/a.pdf")
    really_open = os.open

    def swap_and_open(path: str, flags: int, **options: int) -> int:
        monkeypatch.undo()
        (root / "folder").rename(root / "away")
        (root / "folder").symlink_to(tmp_path / "outside")
        return really_open(path, flags, **options)

    monkeypatch.setattr(os, "open", swap_and_open)
    assert refusal(lambda: files.locate(file_address(root / "folder" / "a.pdf"))) is Code.SOURCE_NOT_ALLOWED


def test_a_folder_that_is_swapped_all_the_time_never_leads_outside(tmp_path: Path, root: Path, files: Files) -> None:
    put(tmp_path, "outside/a.pdf", b"of another sender")
    put(root, "real/a.pdf", b"own")
    (root / "link").symlink_to(tmp_path / "outside")
    swapping = threading.Event()

    def swap() -> None:
        while not swapping.is_set():
            for name in ("real", "link"):
                (root / name).rename(root / "folder")
                (root / "folder").rename(root / name)

    thread = threading.Thread(target=swap)
    thread.start()
    sizes = set()
    try:
        for _ in range(2000):
            with suppress(DocumentRefused):
                sizes.add(files.locate(file_address(root / "folder" / "a.pdf")).size_bytes)
    finally:
        swapping.set()
        thread.join()
    assert sizes <= {len(b"own")}


def test_a_folder_that_may_be_searched_and_not_listed_is_enough(
    root: Path, files: Files, request: pytest.FixtureRequest
) -> None:
    path = put(root, "closed/a.pdf")
    for folder in (path.parent, *path.parent.parents):
        folder.chmod(folder.stat().st_mode | 0o011)
    path.parent.chmod(0o711)
    request.getfixturevalue("nobody")
    assert files.locate(file_address(path)).size_bytes == 7


@pytest.mark.parametrize("name", ["data/secret_key", "data/processing/a.pdf", "mounted/a.pdf"])
def test_our_own_folders_inside_a_root_stay_closed(root: Path, name: str) -> None:
    """A second mount of a folder has its device and inode, as a rename has: that takes no rights to try."""
    files = Files([root], [root], private=root / "data")
    put(root, "data/processing/a.pdf")
    if name.startswith("mounted"):
        (root / "data" / "processing").rename(root / "mounted")
        (root / "data" / "processing").symlink_to(root / "mounted")
    path = put(root, name)
    identity = Files([root]).locate(file_address(path)).identity
    assert refusal(lambda: files.locate(file_address(path))) is Code.SOURCE_NOT_ALLOWED
    assert refusal(lambda: files.remove(file_address(path), identity)) is Code.SOURCE_NOT_ALLOWED
    assert path.exists()


def test_a_file_with_a_second_name_is_taken_only_where_the_kernel_guards_such_names(tmp_path: Path, root: Path) -> None:
    (root / "a.pdf").hardlink_to(put(tmp_path, "outside/a.pdf"))
    address = file_address(root / "a.pdf")
    assert refusal(lambda: Files([root], hard_links=False).locate(address)) is Code.SOURCE_NOT_ALLOWED
    assert Files([root], hard_links=True).locate(address).size_bytes == 7


# --- reading ---------------------------------------------------------------------------------------------------------


def test_each_attempt_reads_from_the_start(root: Path, files: Files) -> None:
    address = file_address(put(root, content=b"12345"))
    identity = files.locate(address).identity
    for _ in range(2):
        with files.open(address, identity) as source:
            assert source.size == 5
            assert source.read(3) + source.read(100) == b"12345"
            assert source.read(1) == b""
            assert source.unchanged()


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewrite(path: Path) -> None:
    path.write_bytes(b"CONTENT")
    os.utime(path, ns=(1, 1))


def replace(path: Path) -> None:
    status = path.stat()
    other = path.with_name("other")
    other.write_bytes(b"CONTENT")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [grow, rewrite, replace])
def test_a_file_changed_since_it_was_located_is_not_opened(
    root: Path, files: Files, change: Callable[[Path], None]
) -> None:
    path = put(root)
    identity = files.locate(file_address(path)).identity
    change(path)
    assert refusal(lambda: files.open(file_address(path), identity)) is Code.FILE_CHANGED


@pytest.mark.parametrize("change", [grow, rewrite, replace, Path.unlink])
def test_a_file_changed_while_it_is_read_is_noticed(root: Path, files: Files, change: Callable[[Path], None]) -> None:
    path = put(root)
    with files.open(file_address(path), files.locate(file_address(path)).identity) as source:
        change(path)
        assert not source.unchanged()


def test_moving_a_file_leaves_its_identity(root: Path, files: Files) -> None:
    path = put(root)
    identity = files.locate(file_address(path)).identity
    moved = path.rename(root / "b.pdf")
    with files.open(file_address(moved), identity) as source:
        assert source.unchanged()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(sys.platform != "linux", reason="counts open descriptors in /proc")
def test_no_descriptor_is_left_open(root: Path, files: Files) -> None:
    path = put(root)
    identity = files.locate(file_address(path)).identity
    os.mkfifo(root / "pipe")
    before = open_descriptors()
    with files.open(file_address(path), identity):
        pass
    refusal(lambda: files.open(file_address(path), "another"))
    refusal(lambda: files.locate(file_address(root / "pipe")))
    assert open_descriptors() == before


# --- removing --------------------------------------------------------------------------------------------------------


@pytest.fixture
def emptied(root: Path) -> Files:
    """A root whose files may be removed."""
    return Files([], [root])


def test_a_file_is_removed_only_while_it_is_what_was_located(root: Path, emptied: Files) -> None:
    path = put(root)
    identity = emptied.locate(file_address(path)).identity
    replace(path)
    assert not emptied.remove(file_address(path), identity)
    assert path.exists()
    assert emptied.remove(file_address(path), emptied.locate(file_address(path)).identity)
    assert not path.exists()
    assert emptied.remove(file_address(path), identity)  # a second time, as after a kill


def test_a_file_whose_folder_is_gone_counts_as_removed(root: Path, emptied: Files) -> None:
    assert emptied.remove(file_address(root / "gone" / "a.pdf"), "1:1:1")


def test_nothing_is_removed_from_a_root_that_does_not_allow_it(tmp_path: Path, root: Path) -> None:
    path = put(root)
    files = Files([root], [tmp_path / "another"])
    identity = files.locate(file_address(path)).identity
    assert refusal(lambda: files.check_removable(file_address(path))) is Code.SOURCE_NOT_ALLOWED
    assert refusal(lambda: files.remove(file_address(path), identity)) is Code.SOURCE_NOT_ALLOWED
    assert path.exists()


def test_nothing_outside_the_roots_is_removed(tmp_path: Path, root: Path, emptied: Files) -> None:
    path = put(tmp_path, "outside/a.pdf")
    identity = Files([tmp_path]).locate(file_address(path)).identity
    (root / "escape").symlink_to(tmp_path / "outside")
    for address in (file_address(path), file_address(root / "escape" / "a.pdf")):
        assert refusal(lambda address=address: emptied.remove(address, identity)) is Code.SOURCE_NOT_ALLOWED  # type: ignore[misc]
    assert path.exists()
