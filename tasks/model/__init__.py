"""What a document, a job, a route and an error *are*; no I/O."""
