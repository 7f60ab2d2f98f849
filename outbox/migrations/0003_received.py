"""The table of received messages, and the state of sources."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('outbox', '0002_events_and_targets'),
    ]

    operations = [
        migrations.CreateModel(
            name='SourceState',
            fields=[
                ('source', models.CharField(max_length=50, primary_key=True, serialize=False, verbose_name='source')),
                ('stored', models.PositiveBigIntegerField(default=0, editable=False)),
                ('duplicates', models.PositiveBigIntegerField(default=0, editable=False)),
                ('unreadable', models.PositiveBigIntegerField(default=0, editable=False)),
                ('unknown', models.PositiveBigIntegerField(default=0, editable=False)),
                ('dropped', models.PositiveBigIntegerField(default=0, editable=False)),
                ('lag', models.PositiveBigIntegerField(blank=True, help_text='Messages that wait in the external system.', null=True, verbose_name='lag')),
                ('lag_at', models.DateTimeField(blank=True, null=True, verbose_name='lag measured at')),
                ('paused_at', models.DateTimeField(blank=True, help_text='Its backlog was too large.', null=True, verbose_name='paused since')),
                ('failing_at', models.DateTimeField(blank=True, null=True, verbose_name='failing since')),
                ('failure', models.CharField(blank=True, default='', max_length=300, verbose_name='failure')),
            ],
            options={
                'verbose_name': 'source',
                'verbose_name_plural': 'sources',
            },
        ),
        migrations.AlterField(
            model_name='heartbeat',
            name='kind',
            field=models.CharField(choices=[('relay', 'relay'), ('worker', 'worker'), ('beat', 'beat'), ('broker', 'broker: a message passed through it'), ('canary', 'canary'), ('outage', 'outage of the database'), ('receiver', 'receiver of a source')], max_length=10, verbose_name='kind'),
        ),
        migrations.CreateModel(
            name='Received',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('source', models.CharField(max_length=50, verbose_name='source')),
                ('external_id', models.CharField(max_length=100, verbose_name='external id')),
                ('event', models.UUIDField(verbose_name='event id')),
                ('received_at', models.DateTimeField(verbose_name='received at')),
            ],
            options={
                'verbose_name': 'received message',
                'verbose_name_plural': 'received messages',
                'constraints': [models.UniqueConstraint(fields=('source', 'external_id'), name='outbox_received_once')],
            },
        ),
    ]
