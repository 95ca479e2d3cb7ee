"""The kinds of value that settings hold: what each accepts, and the message for what it does not accept.

A message is worded to follow the key's name ("redis.url must be ..."). It never repeats the value, which may be secret.
"""

import contextlib
import json
import re
from dataclasses import dataclass, field
from fnmatch import translate
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, StringConstraints

from config.hosts import AMAZON_S3, HOST_NAME, is_address
from config.name_patterns import NamePattern

TEN_YEARS_IN_SECONDS = 315_360_000.0
# What both redis-py and kombu understand. One of them would fail on any other option, and only when it connects.
REDIS_OPTIONS = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs"}
# What each kind of key may sign with (RFC 7518 section 3.1), the usual algorithm first.
ALGORITHMS_OF_KEYS = {
    "RSA": ("PS256", "PS384", "PS512", "RS256", "RS384", "RS512"),
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
}


class Section(BaseModel):
    """One table of the settings file. Its errors leave the input out, since that may be a secret."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_default=True,
        # Most installations have accounts of one or two kinds, and so use few of the models.
        defer_build=True,
    )


@dataclass(frozen=True)
class MayHaveSecretFile:
    """Marks a key `x` whose value may instead be the content of the file that `x_file` names."""


# Numbers


def _not_a_truth_value(value: object) -> object:
    # Pydantic would read true as 1. It turns a ValueError into a validation error, but lets a TypeError through.
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


Number = BeforeValidator(_not_a_truth_value)
Seconds = Annotated[float, Field(gt=0, le=TEN_YEARS_IN_SECONDS, allow_inf_nan=False), Number]
Minutes = Annotated[float, Field(gt=0, le=TEN_YEARS_IN_SECONDS / 60, allow_inf_nan=False), Number]
LeaseSeconds = Annotated[float, Field(ge=1, le=3600, allow_inf_nan=False), Number]
Count = Annotated[int, Field(ge=1), Number]
CountOrCores = Annotated[int, Field(ge=0, le=256), Number]
Days = Annotated[int, Field(ge=1, le=3650), Number]
DaysOrForEver = Annotated[int, Field(ge=0, le=3650), Number]
Port = Annotated[int, Field(ge=0, le=65_535), Number]
WebPort = Annotated[int, Field(ge=1, le=65_535), Number]
IdleMinutes = Annotated[float, Field(ge=1, le=1440, allow_inf_nan=False), Number]
Hours = Annotated[float, Field(ge=0.1, le=168, allow_inf_nan=False), Number]


# Paths, hosts and addresses


def _absolute(value: Path) -> Path:
    if "\0" in str(value):
        raise ValueError("must be a path without zero characters")
    with contextlib.suppress(RuntimeError):  # raised for ~ where no home folder is known; the path stays as written
        value = value.expanduser()
    return value.absolute()


def _host_name(value: str) -> str:
    name = value.lower().rstrip(".")
    if not is_address(name) and not HOST_NAME.match(name):
        raise ValueError("must be a host name, without scheme, port or path")
    return name


def _ip_address(value: str) -> str:
    if not is_address(value):
        raise ValueError('must be an IP address of this machine, such as "127.0.0.1", or "0.0.0.0" for all')
    return value


def _ip_network(value: str) -> str:
    try:
        return str(ip_network(value))
    except ValueError:
        raise ValueError('must be an IP address such as "192.0.2.1", or a network such as "192.0.2.0/24"') from None


def _header_name(value: str) -> str:
    if value and not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,63}", value):
        raise ValueError('must be the name of a header, such as "X-Remote-User"')
    return value


def _host_pattern(value: str) -> str:
    if value == AMAZON_S3:
        return value
    wildcard = value.startswith("*.")
    try:
        return "*." * wildcard + _host_name(value.removeprefix("*."))
    except ValueError:
        raise ValueError(
            'must be a host name, without scheme, port or path; a wildcard may only lead it, as in "*.example.org"'
        ) from None


def _split(value: str) -> SplitResult | None:
    """The parts of an address; None if it is malformed."""
    try:
        parts = urlsplit(value)
        _ = parts.port  # urlsplit does not check the port until it is read
    except ValueError:
        return None
    # urlsplit drops tabs and line breaks silently, so the written address must be searched for them.
    return None if re.search(r"[\x00-\x20\x7f]", value) else parts


def _web_address(value: str) -> str:
    parts = _split(value)
    if parts is None or parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("must be an address such as https://api.example.org/v1")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("must be an address without user name, password, query or fragment")
    return value.rstrip("/")


def _s3_prefix(value: str) -> str:
    if value and not re.fullmatch(r"s3://[A-Za-z0-9][A-Za-z0-9._-]+(/[^?#\x00-\x1f]*)?", value):
        raise ValueError('must be an address such as "s3://bucket/prefix"')
    return value.rstrip("/")


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
HostName = Annotated[str, AfterValidator(_host_name)]
IpAddress = Annotated[str, AfterValidator(_ip_address)]
IpNetwork = Annotated[str, AfterValidator(_ip_network)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
HostPattern = Annotated[str, AfterValidator(_host_pattern)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
OptionalWebAddress = Annotated[str, AfterValidator(lambda value: value and _web_address(value))]
Bucket = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$")]
S3Prefix = Annotated[str, AfterValidator(_s3_prefix)]


# Names of files


_DOCUMENTS = ("scan.pdf", "IMG_0042.jpg", "Überweisung 2.tif", "a.doc")
_PATIENTS = ("4711", "A-12", "f2b0a6c4-7d1e-4c5a-9b3f-0e8d7c6b5a49")
_SIDECAR = "scan.pdf.meta.json"


def _ignore_pattern(value: str) -> str:
    if not value or not value.isprintable() or "/" in value or "\\" in value:
        raise ValueError("must be a pattern for the name of a file or folder, such as *.bak, without folders")
    fits = re.compile(translate(value.casefold()))
    if any(all(fits.match(name.casefold()) for name in names) for names in (_DOCUMENTS, _PATIENTS)):
        raise ValueError("would leave every document or every patient's folder alone: name what is to be ignored")
    if fits.match(_SIDECAR):
        raise ValueError("would leave sidecars (.meta.json) alone, and their documents would go without them")
    return value


def _one_or_several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _name_patterns(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise ValueError("must hold at least one pattern")
    for value in values:
        NamePattern.parse(value)
    return values


IgnorePattern = Annotated[str, AfterValidator(_ignore_pattern)]
NamePatterns = Annotated[tuple[str, ...], BeforeValidator(_one_or_several), AfterValidator(_name_patterns)]


# Redis


def _redis_url(value: str) -> str:
    if not value:
        return value
    parts = _split(value)
    if parts is None or parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("must begin with redis://, rediss:// or unix://, or be empty for the embedded server")
    if ";" in value:  # kombu would read it as a list of servers
        raise ValueError("must name one server; within a password, write ; as %3B")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme == "unix":
        _check_socket(parts, options)
    else:
        _check_server(parts, options)
    return value


def _check_socket(parts: SplitResult, options: dict[str, str]) -> None:
    if parts.hostname or len(parts.path) < 2 or parts.fragment:
        raise ValueError("must name the socket's absolute path, as in unix:///run/redis.sock")
    if options.keys() - {"db"} or not options.get("db", "0").isdecimal():
        raise ValueError("may carry nothing after the socket's path but ?db=<number>")


def _check_server(parts: SplitResult, options: dict[str, str]) -> None:
    if not parts.hostname or parts.fragment:
        raise ValueError("must name a host, as in redis://redis.example.org:6379/0")
    if not re.fullmatch(r"/?|/[0-9]+", parts.path):
        raise ValueError("must end in the number of a database, as in redis://redis.example.org:6379/0")
    if options.keys() - (REDIS_OPTIONS if parts.scheme == "rediss" else set()):
        known = ", ".join(sorted(REDIS_OPTIONS))
        raise ValueError(f"carries an option that is not known: rediss:// takes {known}, redis:// takes none")
    if options.get("ssl_cert_reqs", "required").lower() not in ("required", "cert_required"):
        raise ValueError("turns certificate checking off: remove ssl_cert_reqs, and name your CA in ssl_ca_certs")


# The address may hold a password: it is not shown, and may be given as a file.
RedisUrl = Annotated[str, MayHaveSecretFile(), AfterValidator(_redis_url), Field(repr=False)]


# Texts that become part of a request


def _header_text(value: str) -> str:
    if not (value.isascii() and value.isprintable() and value == value.strip()):
        raise ValueError("must be plain ASCII characters on one line, without spaces around them")
    return value


def _header_secret(value: SecretStr) -> SecretStr:
    _header_text(value.get_secret_value())
    return value


def _path_segment(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,199}", value):
        raise ValueError("must be a name as it stands in the provider's addresses: letters, digits and . _ ~ -")
    return value


def _contact(value: str) -> str:
    if not re.fullmatch(r"[^()<>@\x00-\x1f\x7f]{1,80} \([^@\s()<>]{1,64}@[^@\s()<>]{1,190}\.[^@\s()<>]{1,60}\)", value):
        raise ValueError('must be a name and an e-mail address, such as "North Clinic (it@clinic.example)"')
    if not value.isascii():
        raise ValueError("must be plain ASCII characters: it goes into a header")
    return value


def _sentence(value: str) -> str:
    value = value.strip()
    if not value.isprintable() or len(value) > 200:
        raise ValueError('must be a sentence of at most 200 characters on one line, such as "IT, extension 212"')
    return value


def _coding(value: str) -> str:
    system, _, rest = value.partition("|")
    code = rest.partition("|")[0]
    if value and not (system.strip() and code.strip()):
        raise ValueError('must be written "system|code|display", of which display may be left out')
    return value


def _identifier(value: str) -> str:
    system, _, text = value.partition("|")
    if value and not (system.strip() and text.strip()):
        raise ValueError('must be written "system|value"')
    return value


def _reference(value: str) -> str:
    if value and not re.fullmatch(r"[A-Z][A-Za-z]{1,63}/[A-Za-z0-9.-]{1,64}", value):
        raise ValueError('must be written "Type/id", as in "Practitioner/123"')
    return value


Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
HeaderText = Annotated[str, Field(min_length=1), AfterValidator(_header_text)]
PathSegment = Annotated[str, AfterValidator(_path_segment)]
Contact = Annotated[str, AfterValidator(_contact)]
Sentence = Annotated[str, AfterValidator(_sentence)]
Coding = Annotated[str, AfterValidator(_coding)]
Identifier = Annotated[str, AfterValidator(_identifier)]
OptionalReference = Annotated[str, AfterValidator(_reference)]
"""A FHIR reference on the account's own server."""


# Languages


Language = Literal["en", "de", "nb", "nl"]
"""Those that the sentences for a front desk are written in (`tasks.wording`)."""
AnyLanguage = Annotated[
    Language, BeforeValidator(lambda value: value.strip().lower() if isinstance(value, str) else value)
]


# Secrets and keys


def key_kind(text: str) -> str | None:
    """`RSA`, or the curve of an EC key as JWK names it (`P-256`, `P-384`, `P-521`); None for anything else."""
    # Loads cryptography, about 40 ms, for which no command should wait whose accounts have no private key.
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, RSAKey

    with contextlib.suppress(JoseError, ValueError, TypeError, KeyError, RecursionError):
        raw = json.loads(text) if text.lstrip().startswith("{") else text
        for kind in (RSAKey, ECKey):
            with contextlib.suppress(JoseError, ValueError, TypeError, KeyError):
                key = kind.import_key(raw)
                if key.is_private:
                    return key.curve_name if isinstance(key, ECKey) else "RSA"
    return None


def _private_key(value: SecretStr) -> SecretStr:
    if key_kind(value.get_secret_value()) is None:
        raise ValueError("must be a private RSA or EC key: PKCS#8 in PEM, or a JWK as JSON")
    return value


def _proxy(value: SecretStr | None) -> SecretStr | None:
    text = value.get_secret_value() if value else ""
    if text and _read_proxy(text) is None:
        raise ValueError("must be an address such as http://user:password@proxy.example.org:3128, or empty for none")
    return value


@dataclass(frozen=True, slots=True)
class ProxyAddress:
    """An HTTP proxy, and what it is to be told of us; user and password are empty if it asks for none."""

    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """Without user and password."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def read_proxy(value: SecretStr) -> ProxyAddress | None:
    """The proxy that a setting names; None if it is empty."""
    return _read_proxy(value.get_secret_value())


def _read_proxy(text: str) -> ProxyAddress | None:
    parts = _split(text)
    if parts is None or parts.scheme != "http" or not parts.hostname or not parts.port:
        return None
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        return None
    try:
        host = _host_name(parts.hostname)
    except ValueError:
        return None
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    # HTTP's Basic scheme joins them with a colon, and has no alphabet that all agree on (RFC 7617).
    if ":" in user or not (user + password).isascii() or not (user + password).isprintable():
        return None
    return ProxyAddress(host, parts.port, user, password)


OptionalSecret = Annotated[SecretStr, MayHaveSecretFile()]
Secret = Annotated[SecretStr, MayHaveSecretFile(), Field(min_length=1)]
ApiKey = Annotated[SecretStr, MayHaveSecretFile(), Field(min_length=1), AfterValidator(_header_secret)]
PrivateKey = Annotated[SecretStr, MayHaveSecretFile(), Field(min_length=1), AfterValidator(_private_key)]
OptionalHeaderSecret = Annotated[
    SecretStr, MayHaveSecretFile(), AfterValidator(lambda value: value and _header_secret(value))
]
OptionalPrivateKey = Annotated[
    SecretStr, MayHaveSecretFile(), AfterValidator(lambda value: value and _private_key(value))
]
# The address of a proxy is a secret, since it may hold a password.
Proxy = Annotated[SecretStr, MayHaveSecretFile(), AfterValidator(_proxy)]
OptionalProxy = Annotated[SecretStr | None, MayHaveSecretFile(), AfterValidator(_proxy)]
