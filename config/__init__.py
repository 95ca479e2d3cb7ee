"""What the processes are told: settings, Celery's settings, logging. Imports nothing of ours."""
