"""The index of the admin's list of settlements. Rows are stored while PostgreSQL builds it."""

from __future__ import annotations

from django.db import migrations, models

from outbox.schema import AddIndexBesideWrites


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('outbox', '0013_dedupe_keys'),
    ]

    operations = [
        AddIndexBesideWrites(
            model_name='settlement',
            index=models.Index(fields=['consumer', 'id'], name='outbox_settlement_consumer'),
        ),
    ]
