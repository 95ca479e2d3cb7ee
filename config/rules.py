"""What single values cannot show: settings that contradict each other, and settings that are allowed but unwise."""

from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from config.accounts import Account, FhirAccount, NhnAccount, RedoxAccount
from config.errors import KeyPath, Problem, did_you_mean, dotted, missing
from config.hosts import is_loopback
from config.producers import SHARED
from config.roots import BucketRoot, FileRoot, holds, why_not_apart
from config.settings import Settings, Web
from config.types import ALGORITHMS_OF_KEYS, key_kind

LAST_PORT = 65_535
SHORT_KEY_CHARACTERS = 16


def contradictions(settings: Settings) -> Iterator[Problem]:
    """Settings that cannot be used together. Each problem names every key that it depends on."""
    if settings.redis.url and not settings.secret_key.get_secret_value():
        yield _missing_beside(("secret_key",), ("redis", "url"), "every process needs the same one")
    if settings.callback_hosts and not settings.callback_secret.get_secret_value():
        yield _missing_beside(("callback_secret",), ("callback_hosts",), "it signs the callbacks")
    yield from _unordered(("retry",), settings.retry, "first_seconds", "cap_seconds")
    yield from _unordered(("retry",), settings.retry, "first_seconds", "give_up_after_seconds")
    yield from _unordered(("retry",), settings.retry, "probe_first_seconds", "probe_cap_seconds")
    yield from _too_few_ports(settings)
    yield from _roots_of_ours(settings)
    yield from _unfit_producers(settings)
    yield from _unsafe_page(settings.web)
    for name in settings.inbox.name_patterns.keys() - settings.accounts.keys():
        hint = did_you_mean(name, settings.accounts, "name an account of these settings")
        yield Problem((("inbox", "name_patterns", name), ("accounts",)), f"is not an account: {hint}")
    for name, account in settings.accounts.items():
        at = ("accounts", name)
        yield from _unordered((*at, "confirm"), account.confirm, "first_seconds", "cap_seconds")
        yield from _unordered((*at, "confirm"), account.confirm, "first_seconds", "give_up_after_seconds")
        if not account.base_url:  # Cliniko's follows from the key, if that names a shard
            message = "does not end in a shard, such as -au1, from which its address follows: check it, or set base_url"
            yield Problem(((*at, "api_key"), (*at, "base_url")), message)
        yield from _unfit_algorithm(at, account)
        if isinstance(account, FhirAccount):
            yield from _unfit_login(at, account)
        if not account.insecure:
            yield from _insecure_hosts(at, account)


def cautions(settings: Settings) -> Iterator[str]:
    """Sentences about settings that work, but probably not as the operator wants."""
    key = settings.secret_key.get_secret_value()
    if key and len(key) < SHORT_KEY_CHARACTERS:
        yield "secret_key is short and could be guessed: use 32 random characters."
    yield from _shared_roots(settings)
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


def roots_that_hold(settings: Settings, files: Sequence[Path], what: str) -> Iterator[Problem]:
    """Roots from which a caller could have one of these files delivered; `what` says what the files are."""
    for at, root in _file_roots(settings):
        if any(holds(root.path, file) for file in files):
            message = f"holds {what}, which callers could have delivered: keep that elsewhere, or name a smaller folder"
            yield Problem((at,), message)


def _too_few_ports(settings: Settings) -> Iterator[Problem]:
    """Each worker process has a port of its own for its metrics, from `metrics.port` on."""
    count = settings.worker.process_count
    if settings.metrics.port and settings.metrics.port + count - 1 > LAST_PORT:
        message = f"leaves too few ports after it for {count} worker processes: name a smaller one"
        yield Problem((("metrics", "port"), ("worker", "processes")), message)


def _unsafe_page(web: Web) -> Iterator[Problem]:
    """Settings with which strangers could read passwords, or be believed to be somebody."""
    if bool(web.tls_certificate) != bool(web.tls_key):
        there, absent = ("tls_certificate", "tls_key") if web.tls_certificate else ("tls_key", "tls_certificate")
        yield _missing_beside(("web", absent), ("web", there), "TLS needs both")
    if not ip_address(web.address).is_loopback and not web.secure:  # 0.0.0.0 and :: let others in, too
        message = (
            "lets other machines in, and passwords would cross the network in the clear: set web.tls_certificate and "
            "web.tls_key, or web.url to the https address of a proxy before it"
        )
        yield Problem((("web", "address"), ("web", "url")), message)
    if urlsplit(web.url).path:
        yield Problem((("web", "url"),), "must have no path: a proxy can give the page a host name of its own")
    if web.user_header and not web.trusted_proxies:
        message = "must name the addresses of the proxies that say who somebody is; others could say that too"
        yield Problem((("web", "trusted_proxies"), ("web", "user_header")), message)


def _roots_of_ours(settings: Settings) -> Iterator[Problem]:
    """Roots through which a caller could reach what chartpost keeps for itself."""
    for at, root in _file_roots(settings):
        touches = why_not_apart(root.path, settings.data_dir)
        if touches:
            message = (
                f"{touches} data_dir, so that callers could have other senders' documents and chartpost's own files "
                "delivered: name a folder that is apart from it"
            )
            yield Problem((at, ("data_dir",)), message)
    staging, _, prefix = settings.s3.stage_inbox.removeprefix("s3://").partition("/")
    for at, bucket in _buckets(settings):
        if staging and bucket.name == staging and not prefix:
            message = "is the bucket of s3.stage_inbox as a whole: give stage_inbox a prefix of its own in it"
            yield Problem((at, ("s3", "stage_inbox")), message)


def _unfit_producers(settings: Settings) -> Iterator[Problem]:
    for name, producer in settings.producers.items():
        at: KeyPath = ("producers", name)
        if not producer.accounts:
            yield Problem(((*at, "accounts"),), "is missing: list the accounts that it may send to")
        for index, account in enumerate(producer.accounts):
            if account not in settings.accounts:
                hint = did_you_mean(account, settings.accounts, "name an account of these settings")
                yield Problem(((*at, "accounts", index), ("accounts",)), f"is not an account: {hint}")
    for key in ("file_roots", "s3_buckets"):
        if settings.producers and getattr(settings, key):
            message = (
                f"is for callers without a producer, and there are producers: move it to producers.{SHARED}, or to the "
                "producer that it is for"
            )
            yield Problem(((key,), ("producers",)), message)


def _shared_roots(settings: Settings) -> Iterator[str]:
    """Producers that can read each other's folders."""
    roots = [(at[1], dotted(at), root) for at, root in _file_roots(settings) if at[0] == "producers"]
    for number, (owner, name, root) in enumerate(roots):
        for other_owner, other_name, other in roots[number + 1 :]:
            if owner != other_owner and why_not_apart(root.path, other.path):
                yield f"{name} and {other_name} overlap: each of the two producers can send the other's files."


def _file_roots(settings: Settings) -> Iterator[tuple[KeyPath, FileRoot]]:
    yield from ((("file_roots", index), root) for index, root in enumerate(settings.file_roots))
    for name, producer in settings.producers.items():
        yield from ((("producers", name, "file_roots", i), root) for i, root in enumerate(producer.file_roots))


def _buckets(settings: Settings) -> Iterator[tuple[KeyPath, BucketRoot]]:
    yield from ((("s3_buckets", index), bucket) for index, bucket in enumerate(settings.s3_buckets))
    for name, producer in settings.producers.items():
        yield from ((("producers", name, "s3_buckets", i), bucket) for i, bucket in enumerate(producer.s3_buckets))


def _missing_beside(key: KeyPath, other: KeyPath, reason: str) -> Problem:
    problem = missing(key, may_have_secret_file=True, reason=f"{dotted(other)} is set, and {reason}")
    return Problem((key, other), problem.message)


def _unordered(at: KeyPath, table: object, smaller: str, larger: str) -> Iterator[Problem]:
    if getattr(table, larger) < getattr(table, smaller):
        yield Problem(((*at, larger), (*at, smaller)), f"is smaller than {smaller}: raise it, or lower {smaller}")


def _unfit_algorithm(at: KeyPath, account: Account) -> Iterator[Problem]:
    if not isinstance(account, (RedoxAccount, NhnAccount, FhirAccount)) or not account.algorithm:
        return
    kind = key_kind(account.private_key.get_secret_value()) or ""
    if account.algorithm not in ALGORITHMS_OF_KEYS.get(kind, ()):
        message = "does not go with the private_key: leave it out, and it follows from the key"
        yield Problem(((*at, "algorithm"), (*at, "private_key")), message)


# What each way to show a FHIR server who we are needs, and which of it is a secret.
_LOGINS = {
    "smart": {"client_id": False, "key_id": False, "private_key": True},
    "secret": {"client_id": False, "client_secret": True},
    "bearer": {"token": True},
    "basic": {"user": False, "password": True},
    "none": {},
}


def _unfit_login(at: KeyPath, account: FhirAccount) -> Iterator[Problem]:
    """A login that is not whole, and settings that promise what others of them take away."""
    for name, is_secret in _LOGINS[account.auth].items():
        if not getattr(account, name):
            reason = f'auth = "{account.auth}" needs it'
            problem = missing((*at, name), may_have_secret_file=is_secret, reason=reason)
            yield Problem(((*at, name), (*at, "auth")), problem.message)
    if account.auth == "none" and not account.insecure:
        message = "is none, which is for sandboxes only: choose another, or set insecure = true"
        yield Problem(((*at, "auth"), (*at, "insecure")), message)
    if account.on_unknown_outcome == "resend" and account.conditional == "never":
        message = "is resend, which would make second copies without conditional requests: change it, or conditional"
        yield Problem(((*at, "on_unknown_outcome"), (*at, "conditional")), message)


def _insecure_hosts(at: KeyPath, account: Account) -> Iterator[Problem]:
    """Addresses in the clear or on this machine, which are for sandboxes only."""
    remedy = "set insecure = true if this is a sandbox"
    for name in ("base_url", "token_url", "issuer"):
        address = urlsplit(getattr(account, name, ""))
        if address.scheme == "http":
            yield Problem(((*at, name), (*at, "insecure")), f"is not https: change it, or {remedy}")
        if is_loopback(address.hostname or ""):
            yield Problem(((*at, name), (*at, "insecure")), f"points at this machine: change it, or {remedy}")
    for index, host in enumerate(account.upload_hosts):
        if is_loopback(host):
            keys = ((*at, "upload_hosts", index), (*at, "insecure"))
            yield Problem(keys, f"is this machine: remove it, or {remedy}")
