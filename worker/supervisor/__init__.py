"""`chartpost run`: an embedded Valkey and our processes, each started again when it ends."""
