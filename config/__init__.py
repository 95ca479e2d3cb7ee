"""What the processes are told: settings, Celery's settings, logging. Imports no other package of the project."""
