"""The settings file that points at this sandbox, as the sandbox prints it on standard output."""

import json
from collections.abc import Iterable, Mapping

from sandbox.context import Setting
from sandbox.s3.objects import USER
from sandbox.server import SOURCES_BUCKET, Sandbox


def settings_file(sandbox: Sandbox, providers: Iterable[str]) -> str:
    """TOML with the accounts of these providers."""
    sources = literal({"name": SOURCES_BUCKET, "delete": True})
    lines = [
        f"s3_buckets = [{sources}]",
        "",
        "[s3]",
        f"endpoint_url = {literal(sandbox.engine.url)}",
        # Comments, since the keys for s3:// sources belong into the environment.
        f"# AWS_ACCESS_KEY_ID={USER.id}",
        f"# AWS_SECRET_ACCESS_KEY={USER.secret}",
    ]
    for provider in providers:
        for name, keys in sandbox.providers[provider].accounts().items():
            lines += ["", f"[accounts.{name}]", *(line for key, value in keys.items() for line in setting(key, value))]
    return "\n".join(lines) + "\n"


def setting(key: str, value: Setting) -> list[str]:
    remark = ["# made for this run; it opens nothing but this sandbox"] if key == "private_key" else []
    return [*remark, f"{key} = {literal(value)}"]


def literal(value: Setting) -> str:
    """The value as TOML writes it."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {literal(each)}" for key, each in value.items()) + " }"
    if isinstance(value, str) and "\n" in value:
        return f"'''\n{value}'''"  # a key in PEM keeps its lines
    # JSON's strings, numbers, booleans and lists are TOML's too.
    return json.dumps(value)
