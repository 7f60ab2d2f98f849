from __future__ import annotations

from django_celery_outbox import OutboxCelery

app = OutboxCelery("benchmark")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
