"""`inbox/`, `processing/`, `delivered/`, `failed/` on disk, such that a kill leaves the old state or the new."""
