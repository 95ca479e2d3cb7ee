"""How the outside world misbehaves, chosen by file name or by the test."""
