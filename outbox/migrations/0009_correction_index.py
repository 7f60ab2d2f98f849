"""The index of corrections. Events are stored while PostgreSQL builds it."""

from __future__ import annotations

from django.db import migrations, models

from outbox.schema import AddIndexBesideWrites


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('outbox', '0008_tracestate_of_delayed_events'),
    ]

    operations = [
        AddIndexBesideWrites(
            model_name='event',
            index=models.Index(condition=models.Q(('corrects__isnull', False)), fields=['corrects'], name='outbox_event_corrects'),
        ),
    ]
