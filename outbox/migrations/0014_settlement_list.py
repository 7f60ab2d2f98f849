"""The index of the admin's list of settlements. Rows are stored while PostgreSQL builds it."""

from __future__ import annotations

from importlib import import_module

from django.db import migrations, models

# Its name begins with a digit, so no import statement can name it.
_corrections = import_module('outbox.migrations.0009_correction_index')


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('outbox', '0013_dedupe_keys'),
    ]

    operations = [
        _corrections.AddIndexBesideWrites(
            model_name='settlement',
            index=models.Index(fields=['consumer', 'id'], name='outbox_settlement_consumer'),
        ),
    ]
