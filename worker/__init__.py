"""The long-lived processes and the command line."""
