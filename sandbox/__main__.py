"""`python -m sandbox`: serve until SIGTERM or Ctrl-C; standard output is a settings file, then `# ready`."""

import argparse
import asyncio
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sandbox.faults.state import State
from sandbox.providers.table import DEFAULT_PROVIDERS, PROVIDERS
from sandbox.s3.engine import LOOPBACK, Engine, EngineFailed, EngineMissing
from sandbox.server import running
from sandbox.settings import settings_file

log = logging.getLogger("sandbox")


def main() -> int:
    options = parse_arguments()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    forget_aws_settings()
    try:
        with engine_folder(options.state) as folder:
            return asyncio.run(serve(Engine(folder), options))
    except (EngineMissing, EngineFailed, OSError) as reason:
        print(f"sandbox: {reason}", file=sys.stderr)
        return 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=9000, help="0 picks a free one")
    parser.add_argument("--host", default=LOOPBACK, help="the address to listen on; a container's is 0.0.0.0")
    parser.add_argument("--public-url", default="", metavar="URL", help="its address as others see it")
    parser.add_argument("--validation-seconds", type=float, default=1.0, help="what a provider takes to validate")
    parser.add_argument("--seed", type=int, help="makes record ids and keys the same in every run")
    parser.add_argument(
        "--providers",
        type=provider_names,
        default=",".join(DEFAULT_PROVIDERS),
        metavar="NAMES",
        help="whose accounts to print, separated by commas; all are served in any case",
    )
    parser.add_argument("--state", type=Path, metavar="DIR", help="keep the engine's files here, and leave them")
    parser.add_argument(
        "--stop-at-eof", action="store_true", help="stop when standard input ends: when the starting process does"
    )
    return parser.parse_args()


def provider_names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PROVIDERS]:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(PROVIDERS)}")
    return names


async def serve(engine: Engine, options: argparse.Namespace) -> int:
    asked_to_stop = asyncio.Event()
    stop_on_signals(asked_to_stop)
    if options.stop_at_eof:
        stop_at_eof(asked_to_stop)
    state = State(options.validation_seconds)
    async with running(
        engine, options.port, state, options.seed, host=options.host, public_url=options.public_url
    ) as sandbox:
        print(settings_file(sandbox, options.providers) + "# ready", flush=True)
        return await wait_for_end(engine, asked_to_stop)


async def wait_for_end(engine: Engine, asked_to_stop: asyncio.Event) -> int:
    """The exit code: 0 if the sandbox was asked to stop, 1 if the engine ended before that."""
    asked, ended = asyncio.create_task(asked_to_stop.wait()), asyncio.create_task(engine.ended())
    await asyncio.wait({asked, ended}, return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    if asked.done():
        return 0
    asked.cancel()
    log.error("the S3 engine ended unexpectedly")
    return 1


def stop_on_signals(asked_to_stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: loop.call_soon_threadsafe(asked_to_stop.set))


def stop_at_eof(asked_to_stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        with suppress(RuntimeError):  # the loop has ended for another reason
            loop.call_soon_threadsafe(asked_to_stop.set)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def engine_folder(kept_at: Path | None) -> Iterator[Path]:
    if kept_at is None:
        with tempfile.TemporaryDirectory(prefix="sandbox-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    else:
        kept_at.mkdir(parents=True, exist_ok=True)
        yield kept_at.resolve()


def forget_aws_settings() -> None:
    """Make boto3 ignore the caller's environment and files: they are about the real AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull


if __name__ == "__main__":
    sys.exit(main())
