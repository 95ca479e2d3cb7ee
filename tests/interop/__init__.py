"""What chartpost does, judged by parties that nobody here wrote. docs/interop.md has the table."""
