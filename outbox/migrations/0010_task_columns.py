"""Columns of tasks: priority and return value of a delivery, path of an attempt's exception."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('outbox', '0009_correction_index'),
    ]

    operations = [
        migrations.AddField(
            model_name='attempt',
            name='exception_path',
            field=models.CharField(blank=True, db_default='', default='', max_length=300, verbose_name='path of the exception'),
        ),
        migrations.AddField(
            model_name='delivery',
            name='priority',
            field=models.SmallIntegerField(blank=True, help_text='Of a task: those of a higher priority are sent first.', null=True, verbose_name='priority'),
        ),
        migrations.AddField(
            model_name='delivery',
            name='returned',
            field=models.JSONField(blank=True, help_text='The return value of a task.', null=True, verbose_name='return value'),
        ),
    ]
