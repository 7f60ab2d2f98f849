"""The index of tenants, for the monitor. Rows are stored while PostgreSQL builds it."""

from __future__ import annotations

from django.db import migrations, models

from outbox.schema import AddIndexBesideWrites


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('outbox', '0022_tenant_of_delayed_events'),
    ]

    operations = [
        AddIndexBesideWrites(
            model_name='event',
            index=models.Index(condition=models.Q(('tenant__isnull', False)), fields=['tenant', 'seq'], name='outbox_event_tenant'),
        ),
    ]
