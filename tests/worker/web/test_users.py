"""The file of users: whole or as before, for nobody else, and never believed when others could have written it."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from worker.web import passwords
from worker.web.passwords import hash_password, is_password_of
from worker.web.users import FILE_NAME, Right, User, Users, UsersDamaged, check_name, new_stamp


@pytest.fixture
def users(tmp_path: Path) -> Users:
    return Users(tmp_path / "data")


def add(users: Users, name: str, **rights: Right) -> User:
    return users.put(name, lambda _: User(name, None, rights or {"*": Right.LOOK}, new_stamp()))


def file_of(users: Users) -> Path:
    return users._path


def test_a_person_is_there_after_a_restart(users: Users, tmp_path: Path) -> None:
    added = add(users, "anna", north=Right.ACT)
    assert Users(tmp_path / "data").all() == {"anna": added}
    assert Users(tmp_path / "data").get("ANNA") == added


def test_a_right_holds_those_before_it_and_at_no_other_account(users: Users) -> None:
    anna = add(users, "anna", north=Right.ACT)
    assert [anna.may(right, "north") for right in Right] == [True, True, False]
    assert not anna.may(Right.LOOK, "south")
    everywhere = User("b", None, {"*": Right.LOOK, "north": Right.ADMIN}, "s")
    assert everywhere.accounts(Right.LOOK, ["south", "north"]) == ["north", "south"]
    assert everywhere.accounts(Right.ADMIN, ["south", "north"]) == ["north"]


def test_a_change_by_another_process_is_seen(users: Users, tmp_path: Path) -> None:
    add(users, "anna")
    assert list(users.all()) == ["anna"]
    Users(tmp_path / "data").remove("anna")
    assert users.all() == {}


def _add_many(data: Path, number: int) -> None:
    for each in range(10):
        add(Users(data), f"p{number}-{each}")


def test_commands_at_the_same_time_lose_nobody(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_add_many, args=(tmp_path / "data", number)) for number in range(3)]
    for each in processes:
        each.start()
    for each in processes:
        each.join(60)
    assert len(Users(tmp_path / "data").all()) == 30


def test_a_change_that_fails_leaves_the_file_as_it_was(users: Users) -> None:
    add(users, "anna")
    before = file_of(users).read_bytes()
    with pytest.raises(ValueError, match="no"):
        users.put("anna", lambda _: (_ for _ in ()).throw(ValueError("no")))
    assert file_of(users).read_bytes() == before


def test_what_a_killed_command_left_is_written_over_and_not_followed(users: Users, tmp_path: Path) -> None:
    add(users, "anna")
    elsewhere = tmp_path / "elsewhere"
    draft = file_of(users).with_name(f".{FILE_NAME}.new")
    draft.symlink_to(elsewhere)
    add(users, "berta")
    assert not elsewhere.exists()
    draft.write_text("half")
    draft.chmod(0o644)
    add(users, "carl")
    assert set(users.all()) == {"anna", "berta", "carl"}
    assert file_of(users).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"version": 1, "users": {"anna": {"passw',
        "[]",
        "null",
        '{"version": 2, "users": {}}',
        '{"version": 1, "users": []}',
        '{"version": 1, "users": {"anna": {"password": 5, "rights": {}, "stamp": ""}}}',
        '{"version": 1, "users": {"anna": {"password": null, "rights": {"*": "root"}, "stamp": ""}}}',
        '{"version": 1, "users": {"anna": {"password": null, "rights": {"*": 3}, "stamp": ""}}}',
        "[" * 100_000,
        "\udcff",
    ],
    ids=["empty", "half", "list", "null", "later", "no names", "password", "right", "number", "deep", "no text"],
)
def test_a_damaged_file_lets_nobody_in_and_is_not_written_over(users: Users, content: str) -> None:
    add(users, "anna")
    file_of(users).write_text(content, errors="surrogateescape")
    with pytest.raises(UsersDamaged):
        users.get("anna")
    with pytest.raises(UsersDamaged):
        add(users, "berta")
    assert file_of(users).read_text(errors="surrogateescape") == content


def test_a_file_that_others_may_write_is_not_believed(users: Users) -> None:
    add(users, "anna")
    file_of(users).chmod(0o620)
    with pytest.raises(UsersDamaged, match="by others"):
        Users(file_of(users).parent).get("anna")


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root can give a file to somebody else.")
def test_a_file_of_somebody_else_is_not_believed(users: Users) -> None:
    add(users, "anna")
    os.chown(file_of(users), 4711, -1)
    with pytest.raises(UsersDamaged, match="by others"):
        Users(file_of(users).parent).get("anna")


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root can give a file to somebody else.")
def test_what_root_writes_belongs_to_the_owner_of_the_folder(users: Users) -> None:
    file_of(users).parent.mkdir()
    os.chown(file_of(users).parent, 4711, 4712)
    add(users, "anna")
    for path in file_of(users).parent.iterdir():
        assert (path.stat().st_uid, path.stat().st_gid) == (4711, 4712), path
    assert users.get("anna")


def test_a_link_in_its_place_is_not_followed(users: Users, tmp_path: Path) -> None:
    add(users, "anna")
    target = tmp_path / "target.json"
    file_of(users).rename(target)
    file_of(users).symlink_to(target)
    with pytest.raises(UsersDamaged):
        users.get("anna")
    lock = file_of(users).with_suffix(".lock")
    lock.unlink()
    lock.symlink_to(tmp_path / "made")
    with pytest.raises(OSError, match="symbolic"):
        add(users, "berta")
    assert not (tmp_path / "made").exists()


def test_a_pipe_or_folder_in_its_place_is_not_waited_for(users: Users) -> None:
    file_of(users).parent.mkdir()
    os.mkfifo(file_of(users))
    with pytest.raises(UsersDamaged):
        users.get("anna")


@pytest.mark.parametrize("name", ["", "-a", "a b", "ä", "a" * 65, "a/b", "a\n", ".a", "*"], ids=repr)
def test_names_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="A name is"):
        check_name(name)


def test_a_hash_is_argon2id_and_of_this_password_alone() -> None:
    hashed = hash_password("a long walk by the sea", "anna")
    assert hashed.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    anna = User("anna", hashed, {}, "")
    assert is_password_of(anna, "a long walk by the sea")
    assert not is_password_of(anna, "a long walk by the sea ")
    assert not is_password_of(None, "a long walk by the sea")
    assert not is_password_of(User("b", None, {}, ""), "")
    assert not is_password_of(User("b", "rubbish", {}, ""), "rubbish")
    assert not is_password_of(anna, "x" * 2000)
    assert not is_password_of(anna, "\ud800")


def test_the_check_for_nobody_costs_as_much_as_that_for_somebody() -> None:
    assert not passwords._hasher.check_needs_rehash(passwords._NOBODY)


def test_a_password_is_the_same_from_every_keyboard() -> None:
    anna = User("anna", hash_password("Grüße an alle", "anna"), {}, "")
    assert is_password_of(anna, "Gru\u0308ße an alle")


@pytest.mark.parametrize(
    ("password", "name"),
    [
        ("short", "anna"),
        ("1" * 12, "anna"),
        ("x" * 1025, "anna"),
        ("ANNA is my name", "anna"),
        ("\ud800bcdefghijkl", "b"),
    ],
    ids=["short", "one character", "long", "the name", "no text"],
)
def test_passwords_that_are_soon_guessed_are_refused(password: str, name: str) -> None:
    with pytest.raises(ValueError, match=r"^A password"):
        hash_password(password, name)


def test_a_short_name_may_be_in_a_password() -> None:
    assert hash_password("a long walk by the sea", "al")


def test_the_file_names_no_password(users: Users) -> None:
    users.put("anna", lambda _: User("anna", hash_password("a long walk by the sea", "anna"), {}, new_stamp()))
    content = file_of(users).read_text()
    assert "walk" not in content
    assert "$argon2id$" not in repr(users.get("anna")), "nor does a User that is printed"
    assert json.loads(content)["version"] == 1
