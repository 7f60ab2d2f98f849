"""Columns of a task's delivery: its priority and its return value."""

from __future__ import annotations

from django.db import migrations, models

from outbox.schema import AddFieldBesideWrites


class Migration(migrations.Migration):

    dependencies = [
        ('outbox', '0009_correction_index'),
    ]

    operations = [
        AddFieldBesideWrites(
            model_name='delivery',
            name='priority',
            field=models.SmallIntegerField(blank=True, help_text='Of a task: those of a higher priority are sent first.', null=True, verbose_name='priority'),
        ),
        AddFieldBesideWrites(
            model_name='delivery',
            name='returned',
            field=models.JSONField(blank=True, help_text='The return value of a task.', null=True, verbose_name='return value'),
        ),
    ]
