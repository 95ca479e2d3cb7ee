"""One S3 form POST: check the form, stream the file, interpret the answer."""
