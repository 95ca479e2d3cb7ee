"""What every command begins with: the settings, read once, and this process's collaborators, built when needed."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from config.settings import Settings
    from tasks.runtime import Runtime

NO_SERVER = (
    "No embedded Valkey has been started here, and redis.url is empty: start `chartpost run` first, or set redis.url."
)


class Context:
    """Imports are inside: `--help` and `health` must not wait for Celery."""

    def __init__(self, config: Path | None = None) -> None:
        if config is not None:
            os.environ["CHARTPOST_CONFIG"] = str(config.absolute())  # for children, and for Celery's own loading

    @cached_property
    def settings(self) -> Settings:
        """Raises SettingsError."""
        from config.load import load

        return load()

    def require_server(self) -> None:
        """Raises ClickException where there is no address to ask, and SettingsError."""
        if not self.settings.redis.url and not (self.settings.data_dir / "redis.url").exists():
            raise click.ClickException(NO_SERVER)

    @property
    def redis_url(self) -> str:
        """The server's address, configured or the embedded one's. Raises OSError, ClickException and SettingsError."""
        self.require_server()
        return self.settings.redis.url or (self.settings.data_dir / "redis.url").read_text().strip()

    @cached_property
    def runtime(self) -> Runtime:
        """For a command that asks or changes something and ends: it logs nothing but faults.

        Raises SettingsError, and ClickException where no server has been started.
        """
        self._log("console", "error")
        return self._built()

    @cached_property
    def lasting_runtime(self) -> Runtime:
        """For a command that runs on: it logs as the settings say."""
        self.start_logs()
        return self._built()

    def start_logs(self) -> None:
        """Log as the settings say, their own warnings first."""
        import structlog

        self._log(self.settings.log.format, self.settings.log.level)
        log = structlog.get_logger(__name__)
        for warning in self.settings.warnings:
            log.warning("settings_warning", warning=warning)
        if not self.settings.accounts:
            log.warning("settings_warning", warning="No account is named: add an [accounts.<name>] table.")

    def _log(self, form: str, level: str) -> None:
        from config.logs import configure_logs

        configure_logs(form, level)

    def _built(self) -> Runtime:
        from tasks.runtime import Runtime, use

        self.require_server()
        runtime = Runtime(self.settings)
        use(runtime)
        return runtime


pass_context = click.make_pass_decorator(Context)
