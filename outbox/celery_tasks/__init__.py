"""Celery tasks whose calls are stored with the caller's transaction, and sent after its commit."""
