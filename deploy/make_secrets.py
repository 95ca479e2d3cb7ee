"""Make the secrets that docker-compose.yml reads: `python3 deploy/make_secrets.py [--demo] [--folder DIR]`.

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
# The sandbox's keys are no secrets: it prints them.
DEMO_KEYS = {
    "north_clinic_vendor_api_key": "sandbox-pracsuite-vendor",
    "north_clinic_api_key": "sandbox-north-clinic",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--demo", action="store_true", help="write the sandbox's API keys as well")
    parser.add_argument("--folder", type=Path, default=HERE / "secrets")
    options = parser.parse_args()
    make(options.folder, demo=options.demo)
    for name in DEMO_KEYS:
        if not (options.folder / name).exists():
            sys.stdout.write(f"Still to be written by you: {options.folder / name}\n")
    return 0


def make(folder: Path, *, demo: bool) -> None:
    """All files that are missing; the ACL file anew, from the example and the passwords in the addresses."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    keep_or_write(folder / "secret_key", secrets.token_urlsafe(32))
    keep_or_write(folder / "flower_basic_auth", f"operator:{secrets.token_urlsafe(18)}")
    for user, name in URL_FILES.items():
        keep_or_write(folder / name, ADDRESS.format(user=user, password=secrets.token_urlsafe(24)))
    write(folder / "valkey_users", acl(USERS.read_text(), {user: folder / name for user, name in URL_FILES.items()}))
    for name, key in DEMO_KEYS.items() if demo else ():
        keep_or_write(folder / name, key)


def acl(example: str, addresses: dict[str, Path]) -> str:
    """The ACL file: the example without comments, each <user> replaced by the digest of the user's password."""
    digests = {user: digest_of(path) for user, path in addresses.items()}
    lines = [line for line in example.splitlines() if line.startswith("user ")]
    return re.sub(r"<(\w+)>", lambda name: digests[name[1]], "\n".join(lines))


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
