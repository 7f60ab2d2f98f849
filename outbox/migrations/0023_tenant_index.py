"""The index of tenants, for the monitor. Rows are stored while PostgreSQL builds it."""

from __future__ import annotations

from importlib import import_module

from django.db import migrations, models

# Its name begins with a digit, so no import statement can name it.
_corrections = import_module('outbox.migrations.0009_correction_index')


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('outbox', '0022_tenant_of_delayed_events'),
    ]

    operations = [
        _corrections.AddIndexBesideWrites(
            model_name='event',
            index=models.Index(condition=models.Q(('tenant__isnull', False)), fields=['tenant', 'seq'], name='outbox_event_tenant'),
        ),
    ]
