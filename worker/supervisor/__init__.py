"""`chartpost run`: an embedded Valkey and our processes, forked at its start, each started again when it ends."""
