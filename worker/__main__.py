"""`python -m worker` is the same as `chartpost`."""

from worker.cli.main import main

main()
