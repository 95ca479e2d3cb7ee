"""Opens the bytes of a document, from a folder or S3, hashing as they are read."""
