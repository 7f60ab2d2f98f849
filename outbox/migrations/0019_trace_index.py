"""The index of trace contexts, for the search. Rows are stored while PostgreSQL builds it."""

from __future__ import annotations

from django.db import migrations, models

from outbox.schema import AddIndexBesideWrites


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('outbox', '0018_alerts'),
    ]

    operations = [
        AddIndexBesideWrites(
            model_name='event',
            index=models.Index(condition=models.Q(('traceparent__gt', '')), fields=['traceparent'], name='outbox_event_trace', opclasses=['varchar_pattern_ops']),
        ),
    ]
