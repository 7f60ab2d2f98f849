"""The path of an attempt's exception, which the result of a task names."""

from __future__ import annotations

from django.db import migrations, models

from outbox.schema import AddFieldBesideWrites


class Migration(migrations.Migration):

    dependencies = [
        ('outbox', '0010_task_columns'),
    ]

    operations = [
        AddFieldBesideWrites(
            model_name='attempt',
            name='exception_path',
            field=models.CharField(blank=True, db_default='', default='', max_length=300, verbose_name='path of the exception'),
        ),
    ]
