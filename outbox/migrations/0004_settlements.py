"""Settlements of consumers, and reports of settled events."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('outbox', '0003_received'),
    ]

    operations = [
        migrations.CreateModel(
            name='Settlement',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('event', models.UUIDField(verbose_name='event id')),
                ('consumer', models.CharField(max_length=100, verbose_name='consumer')),
                ('state', models.CharField(choices=[('open', 'open'), ('settled', 'settled'), ('missing', 'missing'), ('withdrawn', 'withdrawn')], default='open', max_length=10, verbose_name='state')),
                ('due_at', models.DateTimeField(verbose_name='due at')),
                ('seconds', models.FloatField(default=0, verbose_name='seconds from the acknowledgement to the deadline')),
                ('most_replays', models.PositiveIntegerField(default=0, verbose_name='maximum of replays')),
                ('replays', models.PositiveIntegerField(default=0, help_text='Publications that a missed deadline has requested.', verbose_name='replays')),
                ('settled_at', models.DateTimeField(blank=True, null=True, verbose_name='settled at')),
            ],
            options={
                'verbose_name': 'settlement',
                'verbose_name_plural': 'settlements',
            },
        ),
        migrations.CreateModel(
            name='SettlementReport',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('source', models.CharField(max_length=50, verbose_name='source')),
                ('external_id', models.CharField(max_length=100, verbose_name='external id')),
                ('reported_id', models.CharField(help_text="The event's id in the other system.", max_length=100, verbose_name='reported id')),
                ('consumer', models.CharField(help_text='The name under which this system reports.', max_length=100, verbose_name='consumer')),
                ('event', models.UUIDField(blank=True, null=True, verbose_name='event id')),
                ('expected_at', models.DateTimeField(verbose_name='expected at')),
                ('check_at', models.DateTimeField(verbose_name='next check at')),
                ('reported_at', models.DateTimeField(blank=True, null=True, verbose_name='reported at')),
                ('replay', models.PositiveIntegerField(default=0, help_text='The number of the last replay that was received.', verbose_name='replay')),
            ],
            options={
                'verbose_name': 'settlement report',
                'verbose_name_plural': 'settlement reports',
            },
        ),
        migrations.AddField(
            model_name='sourcestate',
            name='ignored',
            field=models.PositiveBigIntegerField(db_default=0, default=0, editable=False),
        ),
        migrations.AddField(
            model_name='sourcestate',
            name='settlements',
            field=models.PositiveBigIntegerField(db_default=0, default=0, editable=False),
        ),
        migrations.AlterField(
            model_name='attempt',
            name='outcome',
            field=models.CharField(choices=[('failed', 'failed'), ('refused', 'refused for good'), ('died', 'the worker died'), ('lease_lost', 'lease lost'), ('database', 'the database failed'), ('outage', 'the database could not be reached'), ('replayed', 'settled, and replayed later'), ('unsettled', 'a consumer has not settled it in time')], max_length=10, verbose_name='outcome'),
        ),
        migrations.AddField(
            model_name='settlement',
            name='delivery',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='settlements', to='outbox.delivery', verbose_name='delivery'),
        ),
        migrations.AddIndex(
            model_name='settlementreport',
            index=models.Index(condition=models.Q(('reported_at__isnull', True)), fields=['check_at'], name='outbox_settlementreport_due'),
        ),
        migrations.AddIndex(
            model_name='settlementreport',
            index=models.Index(fields=['event'], name='outbox_settlementreport_event'),
        ),
        migrations.AddConstraint(
            model_name='settlementreport',
            constraint=models.UniqueConstraint(fields=('source', 'external_id'), name='outbox_settlementreport_once'),
        ),
        migrations.AddIndex(
            model_name='settlement',
            index=models.Index(condition=models.Q(('state', 'open')), fields=['due_at'], name='outbox_settlement_due'),
        ),
        migrations.AddIndex(
            model_name='settlement',
            index=models.Index(condition=models.Q(('state', 'missing')), fields=['consumer', 'id'], name='outbox_settlement_missing'),
        ),
        migrations.AddIndex(
            model_name='settlement',
            index=models.Index(fields=['event'], name='outbox_settlement_event'),
        ),
        migrations.AddConstraint(
            model_name='settlement',
            constraint=models.UniqueConstraint(fields=('delivery', 'consumer'), name='outbox_settlement_once'),
        ),
    ]
