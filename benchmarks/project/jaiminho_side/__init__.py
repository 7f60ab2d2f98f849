from .celery import app as celery_app  # as Celery's guide for Django has it: the producer's, too

__all__ = ["celery_app"]
