"""Make the secrets that docker-compose.yml reads: `python3 deploy/make_secrets.py [--demo] [--producer NAME]…`.

What is there already stays, so that it may be run again. The folder is closed to everybody else (0700); the files in
it are readable to all (0444), since a container's user, who is nobody on this machine, sees the file alone.
"""

import argparse
import hashlib
import re
import secrets
import sys
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).parent
USERS = HERE / "valkey" / "users.acl.example"
ADDRESS = "redis://{user}:{password}@valkey:6379/0"
URL_FILES = {"chartpost": "redis_url", "flower": "flower_redis_url", "caller": "caller_redis_url"}
PRODUCER = "#user producer.NAME "  # how the example's line for producers begins
# The sandbox's keys are no secrets: it prints them.
DEMO_KEYS = {
    "north_clinic_vendor_api_key": "sandbox-pracsuite-vendor",
    "north_clinic_api_key": "sandbox-north-clinic",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--demo", action="store_true", help="write the sandbox's API keys as well")
    parser.add_argument("--producer", action="append", default=[], type=producer_name, metavar="NAME")
    parser.add_argument("--redis-7.0", action="store_true", dest="redis_7_0", help="the users of a Redis before 7.2")
    parser.add_argument("--folder", type=Path, default=HERE / "secrets")
    options = parser.parse_args()
    make(options.folder, options.producer, demo=options.demo, redis_7_0=options.redis_7_0)
    for name in DEMO_KEYS:
        if not (options.folder / name).exists():
            sys.stdout.write(f"Still to be written by you: {options.folder / name}\n")
    return 0


def producer_name(text: str) -> str:
    if not re.fullmatch("[a-z][a-z0-9_]{0,63}", text):
        raise argparse.ArgumentTypeError("a producer's name begins with a letter and has only a-z, 0-9 and _")
    if text in ("shared", "rejected"):
        raise argparse.ArgumentTypeError(f"no producer is called {text}: other services are the user `caller`")
    return text


def make(folder: Path, producers: list[str], *, demo: bool, redis_7_0: bool) -> None:
    """All files that are missing; the ACL file anew, from the example and the passwords in the addresses."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    keep_or_write(folder / "secret_key", secrets.token_urlsafe(32))
    keep_or_write(folder / "flower_basic_auth", f"operator:{secrets.token_urlsafe(18)}")
    addresses = {user: folder / name for user, name in URL_FILES.items()}
    addresses |= {f"producer.{name}": folder / f"producer_{name}_redis_url" for name in producers}
    # Those of earlier runs too: the ACL file is written as a whole.
    for path in folder.glob("producer_*_redis_url"):
        addresses[f"producer.{path.name.removeprefix('producer_').removesuffix('_redis_url')}"] = path
    for user, path in addresses.items():
        keep_or_write(path, ADDRESS.format(user=user, password=secrets.token_urlsafe(24)))
    write(folder / "valkey_users", acl(USERS.read_text(), addresses, redis_7_0=redis_7_0))
    for name, key in DEMO_KEYS.items() if demo else ():
        keep_or_write(folder / name, key)


def acl(example: str, addresses: dict[str, Path], *, redis_7_0: bool) -> str:
    """The ACL file: the example without comments, each <user> replaced by the digest of the user's password."""
    lines = [line for line in example.splitlines() if line.startswith("user ")]
    template = next(line for line in example.splitlines() if line.startswith(PRODUCER))
    for user in sorted(addresses.keys() - URL_FILES.keys()):
        lines.append(template.removeprefix("#").replace("NAME", user.removeprefix("producer.")))
    if redis_7_0:
        lines = [line.replace(" +client|setinfo", "") for line in lines]
    digests = {user: digest_of(path) for user, path in addresses.items()}
    return re.sub(r"<([\w.]+)>", lambda user: digests[user[1]], "\n".join(lines))


def digest_of(address_file: Path) -> str:
    password = urlsplit(address_file.read_text().strip()).password or ""
    return hashlib.sha256(password.encode()).hexdigest()


def keep_or_write(path: Path, content: str) -> None:
    if not path.exists():
        write(path, content)


def write(path: Path, content: str) -> None:
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(content + "\n")
    draft.chmod(0o444)
    draft.replace(path)


if __name__ == "__main__":
    sys.exit(main())
