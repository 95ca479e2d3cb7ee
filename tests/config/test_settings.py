"""What the settings file may hold, and the sentences about everything else."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from config.accounts import ACCOUNT_KINDS, PracsuiteAccount
from config.errors import SettingsError
from config.load import load
from config.settings import Settings
from config.types import ProxyAddress
from tests.config.conftest import ACCOUNT, Problems, Read

EVERY_KEY = """
data_dir = "/srv/chartpost"
secret_key = "a-secret-key-of-thirty-two-chars"
file_roots = ["/mnt/scans", "relative"]
s3_buckets = ["scans"]
callback_hosts = ["Hooks.Example.org"]
callback_secret = "signs"
proxy = "http://us:p%40ss@proxy.example.org:3128"
redis.url = "rediss://worker:pw@redis.example.org:6380/1?ssl_ca_certs=/etc/ca.pem"
s3.endpoint_url = "https://s3.example.org/"
s3.stage_inbox = "s3://staging/inbox/"
[inbox]
enabled = false
settle_seconds = 1
rescan_seconds = 5.5
polling = true
ignore = ["*.bak", "OLD-*"]
name_patterns.north_clinic = "{patient_id}_{name}"
[worker]
concurrency = 4
lease_seconds = 10
[retry]
first_seconds = 1
cap_seconds = 10
give_up_after_seconds = 100
probe_first_seconds = 2
probe_cap_seconds = 20
[retention]
jobs_days = 7
delivered_days = 90
[notes]
enabled = false
after_minutes = 0.5
contact = " IT, extension 212 "
language = "NB"
[log]
format = "console"
level = "WARNING"
[metrics]
port = 9100
[accounts.north_clinic]
provider = "pracsuite"
base_url = "http://127.0.0.1:9000/v1/"
vendor_api_key = "vendor-key"
api_key = "clinic-key"
upload_hosts = ["*.S3.example.org", "127.0.0.1"]
insecure = true
requests_per_minute = 60
max_bytes = 1000
duplicates = "send"
confirm.first_seconds = 1
confirm.cap_seconds = 3
confirm.give_up_after_seconds = 60
confirm.look_seconds = 90
max_in_flight = 2
language = "de"
proxy = ""
"""


def test_no_file_at_all_means_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(environ={})
    assert settings.data_dir == tmp_path / "data"
    assert settings.redis.url == ""
    assert settings.secret_key.get_secret_value() == ""
    assert settings.inbox.model_dump() == {
        "enabled": True,
        "settle_seconds": 2.0,
        "incomplete_seconds": 300.0,
        "rescan_seconds": 60.0,
        "polling": False,
        "ignore": (),
        "name_patterns": {},
    }
    assert settings.worker.model_dump() == {"processes": 1, "concurrency": 16, "lease_seconds": 30.0}
    assert settings.retry.model_dump() == {
        "first_seconds": 2.0,
        "cap_seconds": 300.0,
        "give_up_after_seconds": 86400.0,
        "probe_first_seconds": 15.0,
        "probe_cap_seconds": 300.0,
    }
    assert settings.retention.model_dump() == {"jobs_days": 30, "delivered_days": 0, "counts_days": 1100}
    assert settings.log.model_dump() == {"format": "json", "level": "info"}
    assert settings.s3.model_dump() == {"endpoint_url": "", "stage_inbox": ""}
    assert settings.metrics.port == 0
    assert settings.accounts == {}
    assert settings.warnings == ()


def test_an_account_needs_only_a_provider_and_its_keys(read: Read) -> None:
    account = read(ACCOUNT).accounts["north_clinic"]
    assert isinstance(account, PracsuiteAccount)
    assert account.api_key.get_secret_value() == "clinic-key"
    assert account.vendor_api_key.get_secret_value() == "vendor-key"
    assert account.model_dump(exclude={"api_key", "vendor_api_key"}) == {
        "provider": "pracsuite",
        "base_url": "https://api.pracsuite.com/v1",
        "upload_hosts": ("@amazon-s3",),
        "insecure": False,
        "ca_bundle": None,
        "requests_per_minute": 120,
        "max_bytes": 100_000_000,
        "duplicates": "skip",
        "confirm": {
            "first_seconds": 2.0,
            "cap_seconds": 60.0,
            "give_up_after_seconds": 1800.0,
            "look_seconds": 1800.0,
        },
        "max_in_flight": None,
        "language": None,
        "proxy": None,
    }


def test_every_key_of_the_contract_is_read(read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = read(EVERY_KEY)
    assert settings.data_dir == Path("/srv/chartpost")
    assert [root.path for root in settings.file_roots] == [Path("/mnt/scans"), tmp_path / "relative"]
    assert settings.callback_hosts == ("hooks.example.org",)
    assert settings.redis.url == "rediss://worker:pw@redis.example.org:6380/1?ssl_ca_certs=/etc/ca.pem"
    assert settings.s3.model_dump() == {
        "endpoint_url": "https://s3.example.org",
        "stage_inbox": "s3://staging/inbox",
    }
    assert settings.log.model_dump() == {"format": "console", "level": "warning"}
    assert settings.notes.model_dump() == {
        "enabled": False,
        "after_minutes": 0.5,
        "contact": "IT, extension 212",
        "language": "nb",
    }
    assert (settings.language_of("north_clinic"), settings.language_of("another")) == ("de", "nb")
    account = settings.accounts["north_clinic"]
    assert account.base_url == "http://127.0.0.1:9000/v1"
    assert account.upload_hosts == ("*.s3.example.org", "127.0.0.1")
    assert account.confirm.look_seconds == 90.0
    assert account.max_in_flight == 2
    assert settings.warnings == ()


def test_settings_cannot_be_changed(read: Read) -> None:
    settings = read(ACCOUNT)
    with pytest.raises(ValidationError):
        settings.data_dir = Path("/elsewhere")  # type: ignore[misc]  # that it is refused is the point


def test_how_long_to_look_defaults_to_how_long_to_wait(read: Read) -> None:
    settings = read(ACCOUNT + "confirm.give_up_after_seconds = 77")
    assert settings.accounts["north_clinic"].confirm.look_seconds == 77.0
    assert settings.warnings == ()


def test_looking_for_a_shorter_time_is_accepted_with_a_warning(read: Read) -> None:
    settings = read(ACCOUNT + "confirm.look_seconds = 60")
    assert settings.accounts["north_clinic"].confirm.look_seconds == 60.0
    (warning,) = settings.warnings
    assert warning.startswith("accounts.north_clinic.confirm.look_seconds is smaller than give_up_after_seconds")


def test_a_short_secret_key_is_accepted_with_a_warning_that_does_not_show_it(read: Read) -> None:
    (warning,) = read('secret_key = "tiny-zq9"').warnings
    assert warning.startswith("secret_key is short")
    assert "tiny-zq9" not in warning


def test_0_processes_are_one_for_each_core_that_may_be_used(read: Read) -> None:
    assert read("[worker]\nprocesses = 3").worker.process_count == 3
    assert read("[worker]\nprocesses = 0").worker.process_count == len(os.sched_getaffinity(0))


def test_each_worker_process_has_a_port_for_its_metrics(read: Read, problems: Problems) -> None:
    assert read("[worker]\nprocesses = 6\n[metrics]\nport = 65530").metrics.port == 65530
    (problem,) = problems("[worker]\nprocesses = 7\n[metrics]\nport = 65530")
    assert problem.startswith("metrics.port leaves too few ports after it for 7 worker processes")


def test_an_s3_endpoint_in_the_clear_is_accepted_with_a_warning_unless_it_is_this_machine(read: Read) -> None:
    assert "in the clear" in read('s3.endpoint_url = "http://minio:9000"').warnings[0]
    assert read('s3.endpoint_url = "http://localhost:9000"').warnings == ()


def test_printing_the_settings_shows_no_secret(read: Read) -> None:
    shown = repr(read(EVERY_KEY)) + str(read(EVERY_KEY))
    for secret in ("a-secret-key-of-thirty-two-chars", "signs", ":pw@", "vendor-key", "clinic-key"):
        assert secret not in shown


# Which file is read


def test_the_path_given_wins_over_the_variable_and_the_variable_over_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, port in (("chartpost.toml", 1), ("named.toml", 2), ("given.toml", 3)):
        Path(name).write_text(f"metrics.port = {port}")
    assert load(environ={}).metrics.port == 1
    assert load(environ={"CHARTPOST_CONFIG": "named.toml"}).metrics.port == 2
    assert load(Path("given.toml"), {"CHARTPOST_CONFIG": "named.toml"}).metrics.port == 3
    assert load(environ={"CHARTPOST_CONFIG": ""}).metrics.port == 1


@pytest.mark.parametrize("environ", [{}, {"CHARTPOST_CONFIG": "missing.toml"}])
def test_a_file_that_was_named_must_exist(tmp_path: Path, environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"missing\.toml cannot be read \(No such file or directory\)"):
        load(None if environ else tmp_path / "missing.toml", environ)


def test_a_syntax_error_names_file_and_line(problems: Problems) -> None:
    (problem,) = problems('data_dir = "x"\nsecret_key = hunter2\n')
    assert "chartpost.toml: line 2, column" in problem
    assert "hunter2" not in problem


def test_a_file_that_is_not_utf8_is_a_problem(problems: Problems) -> None:
    (problem,) = problems(b'data_dir = "\xff"')
    assert "chartpost.toml is not UTF-8 (byte 12)" in problem


def test_a_byte_order_mark_is_not_a_problem(read: Read) -> None:
    assert read(b"\xef\xbb\xbfmetrics.port = 9").metrics.port == 9


@pytest.mark.parametrize("toml", ["a = " + "[" * 5000, "a = " + "9" * 5000, ".".join(["a"] * 5000) + " = 1"])
def test_a_monstrous_file_is_a_problem_and_not_a_crash(problems: Problems, toml: str) -> None:
    assert len(problems(toml)) == 1


# What is wrong, in sentences


def test_an_unknown_key_is_an_error_with_the_nearest_known_one(problems: Problems) -> None:
    assert problems("[worker]\nconcurency = 4") == ("worker.concurency is not a setting: did you mean concurrency?",)
    assert problems("zzz = 4") == ("zzz is not a setting: remove it.",)
    assert problems("warnings = []") == ("warnings is not a setting: remove it.",)
    assert problems(ACCOUNT + "confirm.look_secs = 4") == (
        "accounts.north_clinic.confirm.look_secs is not a setting: did you mean look_seconds?",
    )


def test_a_missing_secret_names_every_way_to_give_it(problems: Problems) -> None:
    assert problems(ACCOUNT.replace('api_key = "clinic-key"', "")) == (
        "accounts.north_clinic.api_key is missing: "
        "set it, or api_key_file, or CHARTPOST_ACCOUNTS__NORTH_CLINIC__API_KEY.",
    )


def test_an_empty_secret_is_a_missing_one(problems: Problems) -> None:
    (problem,) = problems(ACCOUNT.replace("clinic-key", ""))
    assert problem.startswith("accounts.north_clinic.api_key is missing")


def test_redis_elsewhere_needs_a_secret_key_from_outside(problems: Problems, read: Read) -> None:
    (problem,) = problems('redis.url = "redis://h"')
    assert problem.startswith("secret_key is missing (redis.url is set,")
    assert problem.endswith("set it, or secret_key_file, or CHARTPOST_SECRET_KEY.")
    assert read('redis.url = "redis://h"\nsecret_key = "0123456789abcdef"').redis.url == "redis://h"


def test_callbacks_need_a_secret(problems: Problems) -> None:
    (problem,) = problems('callback_hosts = ["h.example.org"]')
    assert problem.startswith("callback_secret is missing (callback_hosts is set,")


@pytest.mark.parametrize("provider", ['"nobody"', '""', '"PracSuite"'])
def test_an_unknown_provider_names_the_known_ones(problems: Problems, provider: str) -> None:
    assert problems(f"[accounts.a]\nprovider = {provider}") == (
        "accounts.a.provider is not a provider that this version speaks: "
        "it speaks pracsuite, cliniko, ovok, redox, nhn, fhir.",
    )


def test_a_missing_provider_is_a_problem(problems: Problems) -> None:
    (problem,) = problems("[accounts.a]\n")
    assert problem == "accounts.a.provider is missing: set it, or CHARTPOST_ACCOUNTS__A__PROVIDER."


def test_no_variable_is_offered_where_none_can_be_written(problems: Problems) -> None:
    assert 'accounts."a\\n".provider is missing: set it.' in problems('[accounts."a\\n"]')


def test_every_kind_of_account_has_its_row() -> None:
    for name, kind in ACCOUNT_KINDS.items():
        own = {"requests_per_minute", "max_bytes"} | (
            {"base_url"} if name != "fhir" else set()
        )  # no vendor, no address
        assert own <= {key for key, field in kind.model_fields.items() if not field.is_required()}


@pytest.mark.parametrize("name", ["North", "1st", '"a b"', '"a\\n"', '""', "a-b", "_a", '"ä"'])
def test_account_names_are_lower_case_words(problems: Problems, name: str) -> None:
    (problem,) = problems(ACCOUNT.replace("north_clinic", name))
    assert "is not a name for an account: begin with a letter, and use only a-z, 0-9 and _." in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("data_dir = 3", "data_dir must be a path."),
        ('data_dir = "a\\u0000b"', "data_dir must be a path without zero characters."),
        ('file_roots = "/a"', "file_roots must be a list."),
        ("file_roots = [1]", "file_roots[0].path must be a path."),
        (
            's3_buckets = ["a/b"]',
            "s3_buckets[0].name must begin with a letter or digit and hold only letters, digits and . _ -.",
        ),
        ('redis = "redis://h"', "redis must be a table."),
        ("accounts = 3", "accounts must be a table."),
        ("accounts.a = 3", "accounts.a must be a table."),
        ('inbox.polling = "maybe"', "inbox.polling must be true or false."),
        ("inbox.settle_seconds = 0", "inbox.settle_seconds must be greater than 0."),
        ("inbox.settle_seconds = -1.5", "inbox.settle_seconds must be greater than 0."),
        ("inbox.settle_seconds = nan", "inbox.settle_seconds must be a finite number."),
        ("inbox.settle_seconds = inf", "inbox.settle_seconds must be a finite number."),
        ("inbox.settle_seconds = true", "inbox.settle_seconds must be a number, not true or false."),
        ('inbox.settle_seconds = "soon"', "inbox.settle_seconds must be a number."),
        ("inbox.settle_seconds = 2024-01-01", "inbox.settle_seconds must be a number."),
        (
            'inbox.ignore = ["a/b"]',
            "inbox.ignore[0] must be a pattern for the name of a file or folder, such as *.bak, without folders.",
        ),
        *(
            (
                f'inbox.ignore = ["*.bak", "{pattern}"]',
                "inbox.ignore[1] would leave every document or every patient's folder alone: name what is to be "
                "ignored.",
            )
            for pattern in ("*", "?*", "*.*", "*.???")
        ),
        (
            'inbox.ignore = ["*.JSON"]',
            "inbox.ignore[0] would leave sidecars (.meta.json) alone, and their documents would go without them.",
        ),
        (
            'inbox.name_patterns.north_clinic = "{patient}_{name}"',
            "inbox.name_patterns.north_clinic has a field that is not known: did you mean patient_id?",
        ),
        (
            'inbox.name_patterns.north_clinic = ["{patient_id}_{name}", "{patient_id}{name}"]',
            "inbox.name_patterns.north_clinic must have text between {patient_id} and {name}, such as _ or -.",
        ),
        ("inbox.name_patterns.north_clinic = []", "inbox.name_patterns.north_clinic must hold at least one pattern."),
        ("inbox.name_patterns.north_clinic = 7", "inbox.name_patterns.north_clinic must be a list."),
        (
            'inbox.name_patterns.north_clinc = "{patient_id}"' + ACCOUNT,
            "inbox.name_patterns.north_clinc is not an account: did you mean north_clinic?",
        ),
        (
            'inbox.name_patterns."North" = "{patient_id}"',
            "inbox.name_patterns.North is not a name for an account: begin with a letter, and use only a-z, 0-9 and _.",
        ),
        ("worker.concurrency = 0", "worker.concurrency must be at least 1."),
        ("worker.concurrency = 1.5", "worker.concurrency must be a whole number."),
        ("worker.lease_seconds = 0.9", "worker.lease_seconds must be at least 1."),
        ("retention.jobs_days = 0", "retention.jobs_days must be at least 1."),
        ("retention.delivered_days = -1", "retention.delivered_days must be at least 0."),
        ('log.format = "xml"', "log.format must be one of 'json' or 'console'."),
        ('log.level = "loud"', "log.level must be one of 'debug', 'info', 'warning' or 'error'."),
        ("log.level = 3", "log.level must be one of 'debug', 'info', 'warning' or 'error'."),
        ('notes.language = "se"', "notes.language must be one of 'en', 'de', 'nb' or 'nl'."),
        ("notes.language = 3", "notes.language must be one of 'en', 'de', 'nb' or 'nl'."),
        ("notes.after_minutes = 0", "notes.after_minutes must be greater than 0."),
        (
            'notes.contact = "two\\nlines"',
            'notes.contact must be a sentence of at most 200 characters on one line, such as "IT, extension 212".',
        ),
        ("metrics.port = 65536", "metrics.port must be at most 65535."),
        (
            's3.endpoint_url = "minio:9000"',
            "s3.endpoint_url must be an address such as https://api.example.org/v1.",
        ),
        ('s3.stage_inbox = "bucket/x"', 's3.stage_inbox must be an address such as "s3://bucket/prefix".'),
        ("retry.cap_seconds = 1", "retry.cap_seconds is smaller than first_seconds: raise it, or lower first_seconds."),
        (
            "retry.give_up_after_seconds = 1",
            "retry.give_up_after_seconds is smaller than first_seconds: raise it, or lower first_seconds.",
        ),
        (
            "retry.probe_cap_seconds = 1",
            "retry.probe_cap_seconds is smaller than probe_first_seconds: raise it, or lower probe_first_seconds.",
        ),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_what_it_must_be(problems: Problems, toml: str, problem: str) -> None:
    assert problems(toml) == (problem,)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('duplicates = "maybe"', "duplicates must be one of 'skip' or 'send'."),
        ('language = "deutsch"', "language must be one of 'en', 'de', 'nb' or 'nl'."),
        ("max_in_flight = 0", "max_in_flight must be at least 1."),
        ("requests_per_minute = 0", "requests_per_minute must be at least 1."),
        ("max_bytes = 0", "max_bytes must be at least 1."),
        (
            'ca_bundle = "/nowhere/ca.pem"',
            "ca_bundle names a file that cannot be read (No such file or directory): name a PEM file, or remove it.",
        ),
        (
            'ca_bundle = "/"',
            "ca_bundle names a file that cannot be read (Is a directory): name a PEM file, or remove it.",
        ),
        (
            "confirm.cap_seconds = 1",
            "confirm.cap_seconds is smaller than first_seconds: raise it, or lower first_seconds.",
        ),
        (
            "confirm.give_up_after_seconds = 1",
            "confirm.give_up_after_seconds is smaller than first_seconds: raise it, or lower first_seconds.",
        ),
        (
            'base_url = "http://api.example.org"',
            "base_url is not https: change it, or set insecure = true if this is a sandbox.",
        ),
        ('base_url = "api.example.org"', "base_url must be an address such as https://api.example.org/v1."),
        ('base_url = "https://[::1"', "base_url must be an address such as https://api.example.org/v1."),
        ('base_url = "https://h:port/"', "base_url must be an address such as https://api.example.org/v1."),
        ('base_url = "https://h/a b"', "base_url must be an address such as https://api.example.org/v1."),
        (
            'base_url = "https://u:p@h/"',
            "base_url must be an address without user name, password, query or fragment.",
        ),
        (
            'base_url = "https://h/?key=1"',
            "base_url must be an address without user name, password, query or fragment.",
        ),
        ('api_key = "two\\nlines"', "api_key must be plain ASCII characters on one line, without spaces around them."),
    ],
)
def test_an_account_says_what_it_cannot_use(problems: Problems, line: str, problem: str) -> None:
    key = line.partition(" ")[0]
    toml = "\n".join(old for old in ACCOUNT.splitlines() if not old.startswith(f"{key} ")) + f"\n{line}"
    assert problems(toml) == (f"accounts.north_clinic.{problem}",)


def test_a_readable_ca_file_is_accepted_and_an_empty_name_means_none(read: Read, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("pem")
    assert read(ACCOUNT + f'ca_bundle = "{tmp_path}/ca.pem"').accounts["north_clinic"].ca_bundle == tmp_path / "ca.pem"
    assert read(ACCOUNT + 'ca_bundle = ""').accounts["north_clinic"].ca_bundle is None


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST.",
        "sandbox.localhost",
        "127.0.0.1",
        "127.8.8.8",
        "[::1]",
        "0.0.0.0",  # noqa: S104  an address to refuse, not one to bind
        "[::ffff:127.0.0.1]",
    ],
)
def test_an_account_on_this_machine_must_be_marked_insecure(problems: Problems, read: Read, host: str) -> None:
    address = f'base_url = "https://{host}:9000/v1"\n'
    assert problems(ACCOUNT + address) == (
        "accounts.north_clinic.base_url points at this machine: "
        "change it, or set insecure = true if this is a sandbox.",
    )
    assert read(ACCOUNT + address + "insecure = true").accounts["north_clinic"].insecure


def test_an_upload_host_on_this_machine_must_be_marked_insecure(problems: Problems, read: Read) -> None:
    hosts = 'upload_hosts = ["*.amazonaws.com", "localhost"]\n'
    assert problems(ACCOUNT + hosts) == (
        "accounts.north_clinic.upload_hosts[1] is this machine: "
        "remove it, or set insecure = true if this is a sandbox.",
    )
    assert read(ACCOUNT + hosts + "insecure = true").accounts["north_clinic"].upload_hosts[1] == "localhost"


@pytest.mark.parametrize(
    "host",
    ["https://h", "h:9000", "h/path", "*", "*.", "a.*.b", "*.*.b", "a*.b", "", " h", "-a.b", "a..b", "u@h", "a" * 64],
)
def test_upload_hosts_are_host_names_with_a_wildcard_in_front_at_most(problems: Problems, host: str) -> None:
    (problem,) = problems(ACCOUNT + f'upload_hosts = ["{host}"]')
    assert problem.startswith("accounts.north_clinic.upload_hosts[0] must be a host name, without scheme, port or path")


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h:6379/0",
        "redis://:p%40ss@h/3",
        "rediss://u:p@h:1/0?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required",
        "unix:///run/redis.sock",
        "unix://:pw@/run/redis.sock?db=2",
        "redis://[::1]:6379/0",
    ],
)
def test_redis_addresses_are_accepted_unchanged(read: Read, url: str) -> None:
    assert read(f'secret_key = "0123456789abcdef"\nredis.url = "{url}"').redis.url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://:hunter2@h",
        "h:6379",
        "redis://",
        "redis:///0",
        "redis://:hunter2@h:x/0",
        "redis://:hunter2@h/zero",
        "redis://:hunter2@h/0?timeout=1",
        "redis://:hunter2@h/0?ssl_cert_reqs=required",
        "redis://:hunter2@h:1/0;redis://i",
        "redis://:hunter2;x@h:1/0",
        "rediss://:hunter2@h/0?ssl_cert_reqs=none",
        "rediss://:hunter2@h/0?ssl_check_hostname=false",
        "unix://run/redis.sock",
        "unix:///",
        "unix:///run/x?db=one",
        "unix:///run/x?virtual_host=1",
    ],
)
def test_a_redis_address_that_cannot_work_is_a_problem_that_hides_it(problems: Problems, url: str) -> None:
    (problem,) = problems(f'secret_key = "0123456789abcdef"\nredis.url = "{url}"')
    assert problem.startswith("redis.url ")
    assert "hunter2" not in problem


# All together

EVERYTHING_WRONG = """
secret_key_fil = "x"
redis.url = "redis://:hunter2@h/0"
callback_hosts = ["hooks.example.org"]
s3.endpoint = "x"
[worker]
concurrency = "many"
[retry]
first_seconds = 500
[accounts.north]
provider = "pracsuite"
base_url = "http://localhost:9"
vendor_api_key = "hunter3\\u0007"
confirm.first_seconds = 90
confirm.look_seconds = "long"
[accounts.south]
provider = "cliniko"
base_url = "http://south.example.org"
api_key = "hunter4"
duplicates = "perhaps"
[accounts.West]
provider = "nobody"
"""


def test_all_problems_of_all_sorts_are_reported_in_one_go(problems: Problems) -> None:
    found = problems(
        EVERYTHING_WRONG, {"CHARTPOST_FILE_ROOTS": "[1", "CHARTPOST_ACCOUNTS__NORTH__API_KEY_FILE": "/hunter5"}
    )
    expected = [
        "file_roots must be a JSON array",
        "accounts.north.api_key_file names a file that cannot be read",
        "worker.concurrency must be a whole number",
        "accounts.north.vendor_api_key must be plain ASCII",
        "accounts.north.confirm.look_seconds must be a number",
        "accounts.south.contact is missing",
        "accounts.south.duplicates must be one of",
        "accounts.West is not a name for an account",
        "accounts.West.provider is not a provider",
        "secret_key_fil is not a setting: did you mean secret_key_file?",
        "s3.endpoint is not a setting: did you mean endpoint_url?",
        "secret_key is missing (redis.url is set",
        "callback_secret is missing (callback_hosts is set",
        "retry.cap_seconds is smaller than first_seconds",
        "accounts.north.confirm.cap_seconds is smaller than first_seconds",
        "accounts.north.base_url is not https",
        "accounts.north.base_url points at this machine",
        "accounts.south.base_url is not https",
    ]
    assert sorted(problem for start in expected for problem in found if problem.startswith(start)) == sorted(found)
    assert len(found) == len(expected)
    assert "hunter" not in "".join(found)


def test_the_error_reads_as_its_sentences(read: Read) -> None:
    with pytest.raises(SettingsError) as caught:
        read("worker.concurrency = 0\nmetrics.port = -1")
    assert str(caught.value).splitlines() == list(caught.value.problems)
    assert len(caught.value.problems) == 2
    assert all(problem.endswith(".") for problem in caught.value.problems)


def test_a_problem_is_not_followed_by_those_that_only_follow_from_it(problems: Problems) -> None:
    assert len(problems(ACCOUNT + 'base_url = "localhost"\n')) == 1
    assert len(problems("retry.first_seconds = 0\nretry.cap_seconds = 1")) == 1
    assert len(problems(ACCOUNT + "confirm.give_up_after_seconds = 0")) == 1


def test_settings_made_in_code_are_checked_key_by_key(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        accounts={"a": {"provider": "pracsuite", "api_key": "x", "vendor_api_key": "y"}},
    )
    assert isinstance(settings.accounts["a"], PracsuiteAccount)
    with pytest.raises(ValidationError) as caught:
        Settings(accounts={"a": {"provider": "pracsuite", "api_key": "hunter2\n", "vendor_api_key": "y"}})
    assert "hunter2" not in str(caught.value)


# --- proxies ---------------------------------------------------------------------------------------------------------


def test_an_account_has_its_own_proxy_everybodys_or_none(read: Read) -> None:
    settings = read(EVERY_KEY)
    assert settings.proxy_of(settings.accounts["north_clinic"]) is None
    other = ACCOUNT.replace("north_clinic", "b") + "proxy = 'http://other.example:8080/'\n"
    settings = read(ACCOUNT + other, {"CHARTPOST_PROXY": "http://us:p%40s%3A@[::1]:3128"})
    everybodys = settings.proxy_of(settings.accounts["north_clinic"])
    assert everybodys == ProxyAddress("::1", 3128, "us", "p@s:")
    assert everybodys.url == "http://[::1]:3128"
    assert "p@s" not in repr(everybodys)
    assert settings.proxy_of(settings.accounts["b"]) == ProxyAddress("other.example", 8080)


def test_a_proxy_may_be_given_by_a_file_as_other_secrets_are(read: Read, tmp_path: Path) -> None:
    (tmp_path / "proxy").write_text("http://us:pw@proxy.example:3128\n")
    settings = read(f"proxy_file = '{tmp_path / 'proxy'}'\n" + ACCOUNT)
    assert settings.proxy_of(settings.accounts["north_clinic"]) == ProxyAddress("proxy.example", 3128, "us", "pw")
    settings = read(ACCOUNT + f"proxy_file = '{tmp_path / 'proxy'}'\n")
    assert settings.proxy_of(settings.accounts["north_clinic"]) == ProxyAddress("proxy.example", 3128, "us", "pw")


@pytest.mark.parametrize(
    "value",
    [
        "proxy.example:3128",
        "http://proxy.example",
        "https://proxy.example:3128",
        "socks5://proxy.example:1080",
        "http://proxy.example:0",
        "http://proxy.example:99999",
        "http://proxy.example:abc",
        "http://proxy.example:3128/path",
        "http://:3128",
        "http://pro xy:3128",
        "http://us%3Aer:pw@proxy.example:3128",
        "http://us:p%0Aw@proxy.example:3128",
        "http://us:p%C3%A4@proxy.example:3128",
    ],
)
def test_a_proxy_that_cannot_be_one_is_refused_without_being_quoted(problems: Problems, value: str) -> None:
    for text in (f'proxy = "{value}"\n' + ACCOUNT, ACCOUNT + f'proxy = "{value}"\n'):
        (problem,) = problems(text)
        assert "http://user:password@proxy.example.org:3128" in problem
        assert value not in problem
