"""The settings that every command works with. What most commands also need is built by `startup`."""

from __future__ import annotations

from functools import cached_property

import click

from config.load import load
from config.settings import Settings

NO_SERVER = (
    "No embedded Valkey has been started here, and redis.url is empty: start `chartpost run` first, or set redis.url."
)


class Context:
    """Made when the first command asks for it. Each member raises SettingsError if the settings are wrong.

    `chartpost health` needs no more than this, so this module imports neither Celery nor structlog (which brings rich).
    """

    @cached_property
    def settings(self) -> Settings:
        return load()

    @property
    def redis_url(self) -> str:
        """The server's address, configured or the embedded one's. Raises OSError and ClickException."""
        self.require_server()
        return self.settings.redis.url or (self.settings.data_dir / "redis.url").read_text().strip()

    def require_server(self) -> None:
        """Raises ClickException if there is no address: neither in the settings nor of an embedded server."""
        if not self.settings.redis.url and not (self.settings.data_dir / "redis.url").exists():
            raise click.ClickException(NO_SERVER)


pass_context = click.make_pass_decorator(Context, ensure=True)
