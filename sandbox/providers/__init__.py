"""The providers' APIs, written from the vendors' pages."""
