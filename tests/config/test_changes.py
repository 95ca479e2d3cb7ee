"""What differs between two settings is named by its keys, and never shown."""

from __future__ import annotations

from collections.abc import Callable

from config.changes import changed_accounts, changed_keys
from config.settings import Settings

BASE = """
secret_key = "0123456789abcdef"
[accounts.north]
provider = "pracsuite"
vendor_api_key = "v"
api_key = "a"
[accounts.south]
provider = "cliniko"
api_key = "MS0x-au1"
contact = "Name (it@clinic.example)"
"""


def test_equal_settings_have_no_changes_wherever_they_were_read_from(read: Callable[..., Settings]) -> None:
    assert changed_keys(read(BASE), read(BASE).with_warnings(["another"])) == []


def test_every_change_is_named_down_to_its_key(read: Callable[..., Settings]) -> None:
    new = read(
        'callback_hosts = ["hooks.example"]\ncallback_secret = "another secret of 32"\n'
        + BASE.replace('api_key = "a"', 'api_key = "b"\nconfirm.first_seconds = 3')
        + "[log]\nlevel = 'debug'\n"
    )
    changed = changed_keys(read(BASE), new)
    assert changed == [
        "callback_hosts",
        "callback_secret",
        "log.level",
        "accounts.north.confirm.first_seconds",
        "accounts.north.api_key",
    ]
    assert changed_accounts(changed) == ["north"]


def test_an_account_that_comes_goes_or_changes_its_provider_is_named_as_a_whole(
    read: Callable[..., Settings],
) -> None:
    only_north = BASE[: BASE.index("[accounts.south]")]
    assert changed_keys(read(BASE), read(only_north)) == ["accounts.south"]
    assert changed_keys(read(only_north), read(BASE)) == ["accounts.south"]
    ovok = '[accounts.north]\nprovider = "ovok"\nemail = "e"\npassword = "p"\nclient_id = "c"\n'
    other = 'secret_key = "0123456789abcdef"\n' + ovok
    assert changed_keys(read(only_north), read(other)) == ["accounts.north"]
