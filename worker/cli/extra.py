"""The packages of the page (`chartpost[web]`), which not every installation has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from config.redaction import OUR_PACKAGES


class NotInstalled(click.ClickException):
    exit_code = 2

    def __init__(self) -> None:
        super().__init__(
            "The page and its passwords need packages that are not installed: pip install 'chartpost[web]'. Without "
            "the page set web.enabled = false."
        )


@contextmanager
def page_extra() -> Iterator[None]:
    """Around the import of what needs these packages. Raises NotInstalled if one is not there."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] in OUR_PACKAGES:
            raise
        raise NotInstalled from error
