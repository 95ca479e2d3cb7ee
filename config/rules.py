"""What single values cannot show: settings that contradict each other, and settings that are allowed but unwise."""

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from config.accounts import Account, NhnAccount, RedoxAccount
from config.errors import Fault, KeyPath, missing
from config.types import ALGORITHMS_OF_KEYS, is_loopback, key_kind

if TYPE_CHECKING:
    from config.settings import Settings

SHORT_KEY_CHARACTERS = 16


def contradictions(settings: "Settings") -> Iterator[Fault]:
    """Settings that cannot hold together; each fault names every key that it rests on."""
    if settings.redis.url and not settings.secret_key.get_secret_value():
        yield _missing_beside(("secret_key",), ("redis", "url"), "every process needs the same one")
    if settings.callback_hosts and not settings.callback_secret.get_secret_value():
        yield _missing_beside(("callback_secret",), ("callback_hosts",), "it signs the callbacks")
    yield from _unordered(("retry", "first_seconds"), ("retry", "cap_seconds"), settings.retry)
    yield from _unordered(("retry", "first_seconds"), ("retry", "give_up_after_seconds"), settings.retry)
    yield from _unordered(("retry", "probe_first_seconds"), ("retry", "probe_cap_seconds"), settings.retry)
    for name, account in settings.accounts.items():
        yield from _account_contradictions(("accounts", name), account)


def cautions(settings: "Settings") -> Iterator[str]:
    """Sentences about settings that work but are likely to be regretted."""
    key = settings.secret_key.get_secret_value()
    if key and len(key) < SHORT_KEY_CHARACTERS:
        yield "secret_key is short and could be guessed: use 32 random characters."
    endpoint = urlsplit(settings.s3.endpoint_url)
    if endpoint.scheme == "http" and not is_loopback(endpoint.hostname or ""):
        yield "s3.endpoint_url is not https: documents cross the network in the clear."
    for name, account in settings.accounts.items():
        confirm = account.confirm
        if confirm.look_seconds < confirm.give_up_after_seconds:
            yield (
                f"accounts.{name}.confirm.look_seconds is smaller than give_up_after_seconds: "
                "a validation slower than it yields a second copy."
            )


def _missing_beside(key: KeyPath, other: KeyPath, reason: str) -> Fault:
    beside = ".".join(str(part) for part in other)
    fault = missing(key, may_be_in_file=True, because=f"{beside} is set, and {reason}")
    return Fault((key, other), fault.words)


def _unordered(smaller: KeyPath, larger: KeyPath, table: object) -> Iterator[Fault]:
    small, large = str(smaller[-1]), str(larger[-1])
    if getattr(table, large) < getattr(table, small):
        yield Fault((larger, smaller), f"is smaller than {small}: raise it, or lower {small}")


def _account_contradictions(at: KeyPath, account: Account) -> Iterator[Fault]:
    confirm = (*at, "confirm")
    yield from _unordered((*confirm, "first_seconds"), (*confirm, "cap_seconds"), account.confirm)
    yield from _unordered((*confirm, "first_seconds"), (*confirm, "give_up_after_seconds"), account.confirm)
    yield from _without_address(at, account)
    yield from _unfit_algorithm(at, account)
    if account.insecure:
        return
    remedy = "set insecure = true if this is a sandbox"
    for name in ("base_url", "token_url", "issuer"):
        address = urlsplit(getattr(account, name, ""))
        if address.scheme == "http":
            yield Fault(((*at, name), (*at, "insecure")), f"is not https: change it, or {remedy}")
        if is_loopback(address.hostname or ""):
            yield Fault(((*at, name), (*at, "insecure")), f"points at this machine: change it, or {remedy}")
    for index, host in enumerate(account.upload_hosts):
        if is_loopback(host):
            keys = ((*at, "upload_hosts", index), (*at, "insecure"))
            yield Fault(keys, f"is this machine: remove it, or {remedy}")


def _without_address(at: KeyPath, account: Account) -> Iterator[Fault]:
    if not account.base_url:
        words = "does not end in a shard, such as -au1, from which its address follows: check it, or set base_url"
        yield Fault(((*at, "api_key"), (*at, "base_url")), words)


def _unfit_algorithm(at: KeyPath, account: Account) -> Iterator[Fault]:
    if not isinstance(account, (RedoxAccount, NhnAccount)) or not account.algorithm:
        return
    kind = key_kind(account.private_key.get_secret_value()) or ""
    if account.algorithm not in ALGORITHMS_OF_KEYS.get(kind, ()):
        words = "does not go with the private_key: leave it out, and it follows from the key"
        yield Fault(((*at, "algorithm"), (*at, "private_key")), words)
