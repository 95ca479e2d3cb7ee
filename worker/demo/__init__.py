"""`chartpost demo`: documents on their way into charts, with nothing set up."""
