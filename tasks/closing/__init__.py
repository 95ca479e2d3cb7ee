"""After the final stage: receipt, files, result, event, callback, each recorded when done."""
