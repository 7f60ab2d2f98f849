"""The index of failing deliveries. Deliveries are stored while PostgreSQL builds it."""

from __future__ import annotations

from django.db import migrations, models

from outbox.schema import AddIndexBesideWrites


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('outbox', '0014_settlement_list'),
    ]

    operations = [
        AddIndexBesideWrites(
            model_name='delivery',
            index=models.Index(condition=models.Q(('started_token__gt', 0), ('state', 'pending')), fields=['subscription', 'due_at', 'attempts'], name='outbox_delivery_failing'),
        ),
    ]
