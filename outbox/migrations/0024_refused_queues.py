"""The queues of the broker that take no message from a process, beside its heartbeat."""

from __future__ import annotations

from django.db import migrations, models

from outbox.schema import AddFieldBesideWrites


class Migration(migrations.Migration):

    dependencies = [
        ('outbox', '0023_tenant_index'),
    ]

    operations = [
        AddFieldBesideWrites(
            model_name='heartbeat',
            name='refused',
            field=models.JSONField(blank=True, help_text='Of a sender: the queues that take none of its messages, each with cause and time.', null=True, verbose_name='refused queues'),
        ),
        migrations.AlterField(
            model_name='heartbeat',
            name='kind',
            field=models.CharField(choices=[('relay', 'relay'), ('worker', 'worker'), ('beat', 'beat'), ('broker', 'broker: a message passed through it'), ('canary', 'canary'), ('outage', 'outage of the database'), ('receiver', 'receiver of a source'), ('sender', 'sender whose messages a queue refuses')], max_length=10, verbose_name='kind'),
        ),
    ]
