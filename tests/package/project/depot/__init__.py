"""A project with one app, which runs with each release of the outbox."""

from .celery import app as celery_app

__all__ = ["celery_app"]
