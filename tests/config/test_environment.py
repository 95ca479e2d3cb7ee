"""The environment over the file, and secrets kept in files of their own."""

from pathlib import Path

import pytest

from tests.config.conftest import ACCOUNT, Problems, Read


def test_the_environment_overrides_the_file(read: Read) -> None:
    settings = read(
        ACCOUNT + "[worker]\nconcurrency = 2\nlease_seconds = 5",
        {
            "CHARTPOST_WORKER__CONCURRENCY": "7",
            "CHARTPOST_INBOX__POLLING": "true",
            "CHARTPOST_DATA_DIR": "/srv/data",
            "CHARTPOST_ACCOUNTS__NORTH_CLINIC__MAX_BYTES": "5",
            "CHARTPOST_ACCOUNTS__NORTH_CLINIC__CONFIRM__CAP_SECONDS": "9.5",
        },
    )
    assert settings.worker.model_dump() == {"processes": 1, "concurrency": 7, "lease_seconds": 5.0}
    assert settings.inbox.polling is True
    assert settings.data_dir == Path("/srv/data")
    account = settings.accounts["north_clinic"]
    assert (account.max_bytes, account.confirm.cap_seconds, account.confirm.first_seconds) == (5, 9.5, 2.0)
    assert account.confirm.model_fields_set == {"cap_seconds"}, "when documents are looked for depends on what was set"
    assert settings.warnings == ()


@pytest.mark.parametrize("text", ['["/a", "/b"]', "/a,/b", " /a , /b ,", ' ["/a","/b"]'])
def test_lists_are_json_or_separated_by_commas(read: Read, text: str) -> None:
    roots = read(environ={"CHARTPOST_FILE_ROOTS": text}).file_roots
    assert [root.path for root in roots] == [Path("/a"), Path("/b")]


def test_an_empty_variable_empties_a_list_and_a_text(read: Read) -> None:
    toml = 'file_roots = ["/a"]\nredis.url = "redis://h"\n'
    settings = read(toml, {"CHARTPOST_FILE_ROOTS": "", "CHARTPOST_REDIS__URL": ""})
    assert settings.file_roots == ()
    assert settings.redis.url == ""


@pytest.mark.parametrize("text", ["[", "[1,", '["a"] x', "[" * 9999])
def test_a_list_that_cannot_be_read_is_a_problem(problems: Problems, text: str) -> None:
    assert problems("", {"CHARTPOST_FILE_ROOTS": text}) == (
        "file_roots must be a JSON array, or values separated by commas.",
    )


def test_a_value_from_the_environment_is_checked_like_one_from_the_file(problems: Problems) -> None:
    assert problems("", {"CHARTPOST_WORKER__CONCURRENCY": ""}) == ("worker.concurrency must be a whole number.",)


def test_unknown_variables_are_warned_about_and_never_an_error(read: Read) -> None:
    settings = read(
        ACCOUNT,
        {
            "CHARTPOST_CONFIG": "ignored, a path was given",
            "CHARTPOST_WROKER__CONCURRENCY": "7",
            "CHARTPOST_ACCOUNTS__NORTH_CLINIK__API_KEY": "hunter2",
            "CHARTPOST_ACCOUNTS__NORTH_CLINIC__SECRET": "hunter2",
            "CHARTPOST_redis__url": "redis://h",
            "CHARTPOST_REDIS": "redis://h",
            "CHARTPOST_ACCOUNTS": "{}",
            "CHARTPOST_ACCOUNTS__NORTH_CLINIC": "{}",
            "CHARTPOST_WORKER__CONCURRENCY_FILE": "/x",
            "CHARTPOST_": "",
            "CHARTPOST_\udcff": "",
            "CHARTPOSTAGE": "not ours",
            "PATH": "/bin",
        },
    )
    assert [warning.split(" ")[0] for warning in settings.warnings] == [
        "CHARTPOST_",
        "CHARTPOST_ACCOUNTS",
        "CHARTPOST_ACCOUNTS__NORTH_CLINIC",
        "CHARTPOST_ACCOUNTS__NORTH_CLINIC__SECRET",
        "CHARTPOST_ACCOUNTS__NORTH_CLINIK__API_KEY",
        "CHARTPOST_REDIS",
        "CHARTPOST_WORKER__CONCURRENCY_FILE",
        "CHARTPOST_WROKER__CONCURRENCY",
        "CHARTPOST_redis__url",
        "CHARTPOST_\\udcff",
    ]
    assert settings.redis.url == ""
    assert "did you mean CHARTPOST_WORKER__CONCURRENCY?" in settings.warnings[7]
    assert "did you mean CHARTPOST_ACCOUNTS__NORTH_CLINIC__API_KEY?" in settings.warnings[4]
    assert "hunter2" not in "".join(settings.warnings)
    assert "\udcff" not in "".join(settings.warnings)


def test_an_account_may_come_from_the_environment_alone(read: Read) -> None:
    prefix = "CHARTPOST_ACCOUNTS__SOUTH__CLINIC__"
    environ = {f"{prefix}PROVIDER": "pracsuite", f"{prefix}API_KEY": "a", f"{prefix}VENDOR_API_KEY": "b"}
    settings = read(environ=environ)
    assert list(settings.accounts) == ["south__clinic"]
    assert settings.warnings == ()


def test_account_names_that_begin_alike_are_told_apart(read: Read) -> None:
    toml = ACCOUNT + ACCOUNT.replace("north_clinic", "north_clinic__west") + ACCOUNT.replace("north_clinic", "north")
    settings = read(toml, {"CHARTPOST_ACCOUNTS__NORTH_CLINIC__WEST__MAX_BYTES": "5"})
    assert [account.max_bytes for account in settings.accounts.values()] == [100_000_000, 5, 100_000_000]


def test_variables_of_an_account_with_an_unknown_provider_leave_one_problem(problems: Problems) -> None:
    prefix = "CHARTPOST_ACCOUNTS__A__"
    environ = {
        f"{prefix}PROVIDER": "nobody",
        f"{prefix}X": "1",
        f"{prefix}X__Y": "1",
        prefix + "__".join("B" * 3000): "",
    }
    (problem,) = problems("", environ)
    assert problem.startswith("accounts.a.provider is not a provider")


# Secrets in files


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_secret_may_stand_in_a_file_of_its_own(read: Read, tmp_path: Path, ending: str) -> None:
    (tmp_path / "key").write_bytes(b"from-the-file" + ending.encode())
    toml = ACCOUNT.replace('api_key = "clinic-key"', f'api_key_file = "{tmp_path}/key"')
    account = read(toml).accounts["north_clinic"]
    assert account.model_dump()["api_key"].get_secret_value() == "from-the-file"


def test_only_one_line_break_is_taken_from_a_secret(read: Read, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("0123456789abcdef \n\n")
    assert read(f'secret_key_file = "{tmp_path}/key"').secret_key.get_secret_value() == "0123456789abcdef \n"


def test_every_secret_can_come_from_a_file_named_in_the_environment(read: Read, tmp_path: Path) -> None:
    contents = {
        "SECRET_KEY": "0123456789abcdef",
        "CALLBACK_SECRET": "signs",
        "REDIS__URL": "redis://:pw@h/0",
        "ACCOUNTS__NORTH_CLINIC__API_KEY": "k1",
        "ACCOUNTS__NORTH_CLINIC__VENDOR_API_KEY": "k2",
    }
    environ = {}
    for name, content in contents.items():
        (tmp_path / name).write_text(content + "\n")
        environ[f"CHARTPOST_{name}_FILE"] = str(tmp_path / name)
    settings = read('[accounts.north_clinic]\nprovider = "pracsuite"', environ)
    keys = settings.accounts["north_clinic"].model_dump()
    found = [settings.secret_key, settings.callback_secret, keys["api_key"], keys["vendor_api_key"]]
    assert [secret.get_secret_value() for secret in found] == ["0123456789abcdef", "signs", "k1", "k2"]
    assert settings.redis.url == "redis://:pw@h/0"
    assert settings.warnings == ()


@pytest.mark.parametrize("given", ["file", "environment"])
def test_a_secret_given_twice_in_one_place_is_a_problem(problems: Problems, tmp_path: Path, given: str) -> None:
    (tmp_path / "key").write_text("hunter2")
    if given == "file":
        found = problems(f'secret_key = "hunter3"\nsecret_key_file = "{tmp_path}/key"')
    else:
        found = problems("", {"CHARTPOST_SECRET_KEY": "hunter3", "CHARTPOST_SECRET_KEY_FILE": f"{tmp_path}/key"})
    assert found == ("secret_key_file is given, and so is secret_key: keep one of them.",)


def test_the_environment_wins_over_the_file_in_either_form(read: Read, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("key-from-a-file-of-its-own")
    plain = read('secret_key_file = "/nowhere"', {"CHARTPOST_SECRET_KEY": "key-from-the-environment"})
    assert plain.secret_key.get_secret_value() == "key-from-the-environment"
    in_file = read('secret_key = "key-from-the-toml"', {"CHARTPOST_SECRET_KEY_FILE": f"{tmp_path}/key"})
    assert in_file.secret_key.get_secret_value() == "key-from-a-file-of-its-own"


def test_an_empty_form_of_a_secret_counts_as_not_given(read: Read, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("key-from-a-file-of-its-own")
    settings = read(f'secret_key = ""\nsecret_key_file = "{tmp_path}/key"\ncallback_secret_file = ""')
    assert settings.secret_key.get_secret_value() == "key-from-a-file-of-its-own"
    assert settings.callback_secret.get_secret_value() == ""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing-hunter2", "names a file that cannot be read (No such file or directory)"),
        ("", "names a file that cannot be read (Is a directory)"),
        ("latin1", "names a file that is not UTF-8 text: put nothing but the secret into it"),
        ("empty", "names a file that is empty: put the secret into it"),
        ("zero\\u0000", "names a file that cannot be read (not a path)"),
    ],
)
def test_a_secret_file_that_holds_none_is_one_problem_that_hides_its_name(
    problems: Problems, tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "latin1").write_bytes(b"\xe4")
    (tmp_path / "empty").write_bytes(b"\n")
    toml = ACCOUNT.replace('api_key = "clinic-key"', f'api_key_file = "{tmp_path}/{name}"')
    assert problems(toml) == (f"accounts.north_clinic.api_key_file {words}.",)


def test_a_secret_file_must_be_named_by_a_text(problems: Problems) -> None:
    assert problems("secret_key_file = 7") == ("secret_key_file names a file that cannot be read (not a path).",)


def test_only_secrets_may_stand_in_files(problems: Problems) -> None:
    assert problems("worker.concurrency_file = 3") == (
        "worker.concurrency_file is not a setting: did you mean concurrency?",
    )
