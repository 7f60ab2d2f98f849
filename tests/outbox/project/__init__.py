"""A small Django project without the shop: the settings and two apps of the outbox's tests."""

from .celery import app as celery_app

__all__ = ["celery_app"]
