"""Makes `data_dir`, which users of our group may enter, and no one else."""

from pathlib import Path

DATA_DIR_MODE = 0o750


def make_data_dir(data_dir: Path) -> None:
    """Make it if it is missing. One that is there keeps its mode: `chartpost check` says if that is too wide."""
    if not data_dir.is_dir():
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        data_dir.mkdir(DATA_DIR_MODE, exist_ok=True)  # another process may have been faster
