"""`python -m worker` is the same as `chartpost`."""

from worker.cli import main

main()
