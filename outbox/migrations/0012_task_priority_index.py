"""The index of tasks by priority. Deliveries are stored while PostgreSQL builds it."""

from __future__ import annotations

from django.db import migrations, models

from outbox.schema import AddIndexBesideWrites


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('outbox', '0011_exception_path'),
    ]

    operations = [
        AddIndexBesideWrites(
            model_name='delivery',
            index=models.Index(condition=models.Q(('priority__isnull', False), ('state', 'pending')), fields=['subscription', '-priority', 'due_at'], name='outbox_delivery_priority'),
        ),
    ]
