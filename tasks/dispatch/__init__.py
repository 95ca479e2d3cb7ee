"""Moves due jobs from the ledger to Celery, accounts in turn, and probes parked accounts."""
