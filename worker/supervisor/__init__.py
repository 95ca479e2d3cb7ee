"""`chartpost run`: an embedded Valkey and our processes, started again when they end."""
