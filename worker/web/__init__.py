"""The page for a clinic's staff: what has arrived, what waits, what needs attention, and the buttons for it."""
