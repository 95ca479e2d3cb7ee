"""`chartpost demo`: a dozen documents and some more on their way into charts, on an embedded Valkey and the sandbox."""

from __future__ import annotations

import importlib.util
import sys

import click

from worker.demo import runner, scenario

_NEEDED = ("sandbox", "aiohttp", "minio")


@click.command
@click.option("--documents", type=click.IntRange(1, 200), default=16, show_default=True, help="How many are sent.")
@click.option("--keep", is_flag=True, help="Leave everything running, with Flower, until Ctrl-C.")
def demo(documents: int, keep: bool) -> None:
    """Show documents going through, with nothing set up.

    Starts an embedded Valkey, a worker, the inbox watcher, the stream intake, and a sandbox that plays the practice
    system; sends documents, some of which meet a fault; compares what has arrived in the sandbox's charts.
    Exits with 0 only if every document ended as the demo expects. Its files are kept in a temporary folder, for the
    last three runs.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise click.ClickException(
            f"The demo needs a sandbox, and {', '.join(missing)} is not installed: pip install 'chartpost[demo]', "
            "or `make demo` in a checkout."
        )
    sys.exit(runner.run(scenario.documents(documents), keep=keep))
