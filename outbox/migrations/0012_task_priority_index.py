"""The index of tasks by priority. Deliveries are stored while PostgreSQL builds it."""

from __future__ import annotations

from importlib import import_module

from django.db import migrations, models

# Its name begins with a digit, so no import statement can name it.
_corrections = import_module('outbox.migrations.0009_correction_index')


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('outbox', '0011_exception_path'),
    ]

    operations = [
        _corrections.AddIndexBesideWrites(
            model_name='delivery',
            index=models.Index(condition=models.Q(('priority__isnull', False), ('state', 'pending')), fields=['subscription', '-priority', 'due_at'], name='outbox_delivery_priority'),
        ),
    ]
