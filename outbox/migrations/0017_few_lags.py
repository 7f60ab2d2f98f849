"""The single times of few deliveries in a minute, for exact percentiles."""

from __future__ import annotations

from django.db import migrations, models

from outbox.schema import AddFieldBesideWrites


class Migration(migrations.Migration):

    dependencies = [
        ('outbox', '0016_release_of_attempts'),
    ]

    operations = [
        AddFieldBesideWrites(
            model_name='minute',
            name='few_lags',
            field=models.JSONField(editable=False, help_text='The seconds of each done delivery, if they are few.', null=True),
        ),
    ]
