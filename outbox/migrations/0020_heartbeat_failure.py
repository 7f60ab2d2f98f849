"""The error of a relay's latest pass, beside its heartbeat."""

from __future__ import annotations

from django.db import migrations, models

from outbox.schema import AddFieldBesideWrites


class Migration(migrations.Migration):

    dependencies = [
        ('outbox', '0019_trace_index'),
    ]

    operations = [
        AddFieldBesideWrites(
            model_name='heartbeat',
            name='failure',
            field=models.CharField(blank=True, db_default='', default='', help_text='Of a relay: the error of its latest pass; empty if that succeeded.', max_length=300, verbose_name='failure'),
        ),
    ]
