"""The W3C trace state of delayed events.

A migration of its own: one that holds the lock of two tables deadlocks with running processes.
"""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('outbox', '0007_consumers'),
    ]

    operations = [
        migrations.AddField(
            model_name='delayedevent',
            name='tracestate',
            field=models.CharField(blank=True, db_default='', default='', max_length=512, verbose_name='trace state'),
        ),
    ]
