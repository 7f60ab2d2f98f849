"""The names of the systems that settle a sink's events.

A migration of its own: one that holds the lock of two tables deadlocks with running processes.
"""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('outbox', '0006_last_message'),
    ]

    operations = [
        migrations.AddField(
            model_name='subscription',
            name='consumers',
            field=models.CharField(blank=True, db_default='', default='', help_text='Names of the systems that report each event as settled, with commas.', max_length=1000, verbose_name='consumers'),
        ),
    ]
