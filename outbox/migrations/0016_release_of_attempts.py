"""The release of the process that recorded an attempt, shown with failures."""

from __future__ import annotations

from django.db import migrations, models

from outbox.schema import AddFieldBesideWrites


class Migration(migrations.Migration):

    dependencies = [
        ('outbox', '0015_failing_index'),
    ]

    operations = [
        AddFieldBesideWrites(
            model_name='attempt',
            name='release',
            field=models.CharField(blank=True, db_default='', default='', help_text='OUTBOX["RELEASE"] of the process that recorded it.', max_length=100, verbose_name='release'),
        ),
    ]
