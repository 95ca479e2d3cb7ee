"""The command line: `chartpost`."""
