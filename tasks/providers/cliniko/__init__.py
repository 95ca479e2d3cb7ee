"""Cliniko: presign, S3 form POST, register, and poll until the record is processed."""
