"""PracSuite: presign, S3 form POST, and poll until the validated record appears."""
