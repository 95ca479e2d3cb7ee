"""The storage: a real S3 engine behind the forms and faults that we add."""
