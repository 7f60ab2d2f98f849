"""The tables of the outbox, and their storage parameters on PostgreSQL."""

import django.core.serializers.json
import django.db.models.deletion
import outbox.ids
from django.db import migrations, models

STORAGE_PARAMETERS = {
    # By default PostgreSQL vacuums a table when a fifth of its rows is dead. A delivery is updated
    # three times before it is settled, and each update leaves a dead row and dead index entries.
    # With a hundred million settled rows, twenty million dead entries would collect in the indexes
    # that each pass of the relay reads.
    'outbox_delivery': {
        'autovacuum_vacuum_scale_factor': 0.01,
        'autovacuum_vacuum_threshold': 1000,  # for small tables
        # The planner needs the share of owed deliveries, which changes within minutes.
        'autovacuum_analyze_scale_factor': 0.02,
        'autovacuum_vacuum_cost_delay': 1,  # milliseconds; the default is 2
        # Keep a tenth of each page free. Otherwise each new delivery takes the single free slot of
        # an old page, and WAL then contains that whole page. No update stays on its page (HOT),
        # since each one changes a column of an index or of its condition.
        'fillfactor': 90,
    },
    'outbox_event': {
        'autovacuum_vacuum_scale_factor': 0.02,
        'autovacuum_vacuum_threshold': 1000,
        # Most writes are inserts. Early runs freeze old pages in small portions.
        'autovacuum_vacuum_insert_scale_factor': 0.05,
        'autovacuum_analyze_scale_factor': 0.05,
    },
}


def set_storage_parameters(apps, schema_editor):
    if schema_editor.connection.vendor != 'postgresql':
        return
    for table, parameters in STORAGE_PARAMETERS.items():
        values = ', '.join(f'{name} = {value}' for name, value in parameters.items())
        schema_editor.execute(f'ALTER TABLE {table} SET ({values})')


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name='Event',
            fields=[
                ('seq', models.BigAutoField(help_text='The order of events; for one key it follows commit order.', primary_key=True, serialize=False)),
                ('id', models.UUIDField(default=outbox.ids.uuid7, editable=False, unique=True, verbose_name='event id')),
                ('name', models.CharField(max_length=150, verbose_name='name')),
                ('version', models.PositiveSmallIntegerField(default=1, verbose_name='version')),
                ('key', models.CharField(help_text='The aggregate that the event is about.', max_length=100, verbose_name='key')),
                ('subject', models.CharField(blank=True, help_text='The person whose data the payload contains.', max_length=100, null=True, verbose_name='subject')),
                ('share', models.CharField(blank=True, help_text='The owner or tenant whose deliveries in flight a handler may limit.', max_length=100, null=True, verbose_name='share')),
                ('payload', models.JSONField(encoder=django.core.serializers.json.DjangoJSONEncoder, verbose_name='payload')),
                ('redacted_at', models.DateTimeField(blank=True, help_text='Time when the sensitive fields were blanked.', null=True, verbose_name='redacted at')),
                ('emitted_at', models.DateTimeField(verbose_name='emitted at')),
                ('correlation_id', models.UUIDField(help_text='Shared by all events that follow from one request.', verbose_name='correlation id')),
                ('causation_id', models.UUIDField(blank=True, help_text='The event whose handler emitted this.', null=True, verbose_name='caused by')),
                ('emitted_by', models.CharField(blank=True, help_text='The handler that emitted this.', max_length=150, verbose_name='emitted by')),
                ('actor', models.CharField(blank=True, max_length=150, verbose_name='actor')),
                ('corrects', models.UUIDField(blank=True, help_text='The dead event that this event replaces, with a corrected payload.', null=True, verbose_name='corrects')),
                ('traceparent', models.CharField(blank=True, db_default='', default='', help_text='W3C traceparent of the emitter. Empty without tracing.', max_length=55, verbose_name='trace context')),
                ('fanned_out_at', models.DateTimeField(blank=True, null=True, verbose_name='fanned out at')),
            ],
            options={
                'verbose_name': 'event',
                'verbose_name_plural': 'events',
                'permissions': [('view_sensitive', 'Can see sensitive fields'), ('correct_event', 'Can correct events and retry them')],
                'indexes': [
                    models.Index(condition=models.Q(('fanned_out_at', None)), fields=['seq'], name='outbox_event_waiting'),
                    models.Index(condition=models.Q(('fanned_out_at', None)), fields=['key', 'seq'], name='outbox_event_waiting_key'),
                    models.Index(fields=['key', 'seq'], name='outbox_event_key'),
                    models.Index(fields=['correlation_id', 'seq'], name='outbox_event_correlation'),
                    models.Index(condition=models.Q(('causation_id__isnull', False)), fields=['causation_id'], name='outbox_event_cause'),
                    models.Index(fields=['name', 'seq'], name='outbox_event_name'),
                    models.Index(condition=models.Q(('subject__isnull', False)), fields=['subject', 'seq'], name='outbox_event_subject'),
                ],
            },
        ),
        migrations.CreateModel(
            name='DelayedEvent',
            fields=[
                ('id', models.UUIDField(default=outbox.ids.uuid7, editable=False, help_text='The emitted event has the same id.', primary_key=True, serialize=False, verbose_name='event id')),
                ('due_at', models.DateTimeField(verbose_name='due at')),
                ('name', models.CharField(max_length=150, verbose_name='name')),
                ('version', models.PositiveSmallIntegerField(default=1, verbose_name='version')),
                ('key', models.CharField(max_length=100, verbose_name='key')),
                ('subject', models.CharField(blank=True, max_length=100, null=True, verbose_name='subject')),
                ('share', models.CharField(blank=True, max_length=100, null=True, verbose_name='share')),
                ('payload', models.JSONField(encoder=django.core.serializers.json.DjangoJSONEncoder, verbose_name='payload')),
                ('stored_at', models.DateTimeField(verbose_name='stored at')),
                ('correlation_id', models.UUIDField(verbose_name='correlation id')),
                ('causation_id', models.UUIDField(blank=True, null=True, verbose_name='caused by')),
                ('emitted_by', models.CharField(blank=True, max_length=150, verbose_name='emitted by')),
                ('actor', models.CharField(blank=True, max_length=150, verbose_name='actor')),
                ('traceparent', models.CharField(blank=True, default='', max_length=55, verbose_name='trace context')),
            ],
            options={
                'verbose_name': 'delayed event',
                'verbose_name_plural': 'delayed events',
                'indexes': [
                    models.Index(fields=['due_at'], name='outbox_delayed_due'),
                ],
            },
        ),
        migrations.CreateModel(
            name='Horizon',
            fields=[
                ('id', models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ('emitted_before', models.DateTimeField(verbose_name='emitted before')),
            ],
            options={
                'verbose_name': 'horizon',
                'verbose_name_plural': 'horizons',
                'constraints': [
                    models.CheckConstraint(condition=models.Q(('id', 1)), name='outbox_horizon_once'),
                ],
            },
        ),
        migrations.CreateModel(
            name='Subscription',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('handler', models.CharField(max_length=150, verbose_name='handler')),
                ('event', models.CharField(max_length=150, verbose_name='event')),
                ('since', models.DateTimeField(verbose_name='since')),
                ('active', models.BooleanField(default=True, verbose_name='active')),
                ('known', models.BooleanField(default=True, help_text='The release that was migrated last declares this handler.', verbose_name='known')),
                ('paused_at', models.DateTimeField(blank=True, null=True, verbose_name='paused at')),
                ('paused_by', models.CharField(blank=True, max_length=150, verbose_name='paused by')),
                ('pause_reason', models.TextField(blank=True, verbose_name='reason for the pause')),
                ('queue', models.CharField(max_length=100, verbose_name='queue')),
                ('atomic', models.BooleanField(default=True, verbose_name='atomic')),
                ('batch', models.PositiveIntegerField(verbose_name='maximum of deliveries per message')),
                ('window', models.PositiveIntegerField(verbose_name='maximum of deliveries in flight')),
                ('window_now', models.PositiveIntegerField(help_text='Shrinks while messages wait longer than their lease, and grows back.', verbose_name='current window')),
                ('lease_seconds', models.FloatField(verbose_name='lease in seconds')),
                ('attempts', models.PositiveIntegerField(blank=True, null=True, verbose_name='attempts')),
                ('backoff_base', models.FloatField(verbose_name='first backoff in seconds')),
                ('backoff_cap', models.FloatField(verbose_name='longest backoff in seconds')),
                ('ordered', models.BooleanField(default=False, help_text='Events of one key are processed one by one.', verbose_name='ordered')),
                ('share_window', models.PositiveIntegerField(blank=True, null=True, verbose_name='maximum of deliveries in flight per share')),
                ('on_dead', models.CharField(choices=[('hold', 'later events of the key wait for staff'), ('pass', 'later events of the key continue')], default='hold', max_length=10, verbose_name='after a dead delivery')),
                ('leases_lost', models.PositiveIntegerField(default=0, help_text='Attempts that outlived their lease and were rolled back.', verbose_name='leases lost')),
                ('breaker_failures', models.PositiveIntegerField(default=0, help_text='Only failures that the breaker counts.', verbose_name='consecutive failures')),
                ('breaker_opened_at', models.DateTimeField(blank=True, help_text='Only probes are sent.', null=True, verbose_name='breaker open since')),
                ('breaker_probe_at', models.DateTimeField(blank=True, null=True, verbose_name='next probe at')),
                ('breaker_probe', models.BigIntegerField(blank=True, help_text='The delivery that tests the handler.', null=True, verbose_name='probe')),
                ('breaker_wait', models.FloatField(default=0, verbose_name='seconds between probes')),
                ('breaker_reason', models.CharField(blank=True, max_length=300, verbose_name='reason for opening')),
            ],
            options={
                'verbose_name': 'subscription',
                'verbose_name_plural': 'subscriptions',
                'permissions': [('pause_subscription', 'Can pause and resume handlers')],
                'constraints': [
                    models.UniqueConstraint(fields=('handler', 'event'), name='outbox_subscription_once'),
                ],
            },
        ),
        migrations.CreateModel(
            name='Delivery',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('event', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='deliveries', to='outbox.event', verbose_name='event')),
                ('subscription', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='deliveries', to='outbox.subscription', verbose_name='subscription')),
                ('state', models.CharField(choices=[('pending', 'pending'), ('sent', 'sent'), ('done', 'done'), ('dead', 'dead'), ('discarded', 'discarded'), ('parked', 'parked'), ('blocked', 'blocked')], default='pending', max_length=10, verbose_name='state')),
                ('due_at', models.DateTimeField(help_text='Pending: when it is sent. Sent: when its lease expires. Blocked: when the relay checks it again.', verbose_name='due at')),
                ('token', models.PositiveIntegerField(default=0, help_text='Number of times it was sent. Only the last message counts.', verbose_name='token')),
                ('started_token', models.PositiveIntegerField(default=0, help_text='The token of the last start by a worker.', verbose_name='started token')),
                ('attempts', models.PositiveIntegerField(default=0, verbose_name='attempts')),
                ('started_at', models.DateTimeField(blank=True, null=True, verbose_name='started at')),
                ('settled_at', models.DateTimeField(blank=True, null=True, verbose_name='settled at')),
                ('worker', models.CharField(blank=True, max_length=150, verbose_name='worker')),
                ('note', models.CharField(blank=True, help_text='Reason for the present state.', max_length=300, verbose_name='note')),
                ('order_key', models.CharField(blank=True, help_text="The event's key while the delivery is owed to an ordered handler.", max_length=100, null=True, verbose_name='order key')),
                ('share', models.CharField(blank=True, help_text="The event's share, if the handler limits deliveries in flight per share.", max_length=100, null=True, verbose_name='share')),
            ],
            options={
                'verbose_name': 'delivery',
                'verbose_name_plural': 'deliveries',
                'permissions': [('retry_delivery', 'Can retry deliveries'), ('discard_delivery', 'Can discard deliveries'), ('replay_delivery', 'Can replay deliveries')],
                'indexes': [
                    models.Index(condition=models.Q(('state', 'pending')), fields=['subscription', 'due_at'], name='outbox_delivery_pending'),
                    models.Index(condition=models.Q(('state', 'sent')), fields=['subscription', 'due_at'], name='outbox_delivery_sent'),
                    models.Index(condition=models.Q(('state', 'dead')), fields=['subscription', 'id'], name='outbox_delivery_dead'),
                    models.Index(condition=models.Q(('state', 'dead')), fields=['id'], name='outbox_delivery_dead_id'),
                    models.Index(condition=models.Q(('state', 'dead')), fields=['event'], name='outbox_delivery_dead_event'),
                    models.Index(condition=models.Q(('state', 'parked')), fields=['subscription', 'id'], name='outbox_delivery_parked'),
                    models.Index(condition=models.Q(('state', 'blocked')), fields=['subscription', 'due_at'], name='outbox_delivery_blocked'),
                    models.Index(condition=models.Q(('state', 'discarded')), fields=['id'], name='outbox_delivery_discarded'),
                    models.Index(condition=models.Q(('share__isnull', False), ('state', 'pending')), fields=['subscription', 'share', 'due_at'], name='outbox_delivery_share'),
                    models.Index(condition=models.Q(('order_key__isnull', False)), fields=['order_key', 'subscription', 'event'], name='outbox_delivery_line'),
                ],
                'constraints': [
                    models.UniqueConstraint(fields=('event', 'subscription'), name='outbox_delivery_once'),
                    models.CheckConstraint(condition=models.Q(('started_token__lte', models.F('token'))), name='outbox_delivery_token'),
                ],
            },
        ),
        migrations.CreateModel(
            name='Attempt',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('delivery', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='failures', to='outbox.delivery', verbose_name='delivery')),
                ('number', models.PositiveIntegerField(verbose_name='number')),
                ('started_at', models.DateTimeField(verbose_name='started at')),
                ('ended_at', models.DateTimeField(verbose_name='ended at')),
                ('worker', models.CharField(blank=True, max_length=150, verbose_name='worker')),
                ('outcome', models.CharField(choices=[('failed', 'failed'), ('refused', 'refused for good'), ('died', 'the worker died'), ('lease_lost', 'lease lost'), ('database', 'the database failed'), ('outage', 'the database could not be reached'), ('replayed', 'settled, and replayed later')], max_length=10, verbose_name='outcome')),
                ('exception', models.CharField(blank=True, max_length=200, verbose_name='exception')),
                ('message', models.TextField(blank=True, verbose_name='message')),
                ('traceback', models.TextField(blank=True, verbose_name='traceback')),
                ('place', models.CharField(blank=True, help_text='File and line of the exception.', max_length=300, verbose_name='place')),
            ],
            options={
                'verbose_name': 'attempt',
                'verbose_name_plural': 'attempts',
                'ordering': ['started_at', 'id'],
            },
        ),
        migrations.CreateModel(
            name='Operation',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('action', models.CharField(choices=[('retry', 'retry'), ('discard', 'discard'), ('replay', 'replay'), ('backfill', 'backfill'), ('pause', 'pause'), ('resume', 'resume'), ('end', 'end'), ('prune', 'prune'), ('redact', 'redact'), ('correct', 'correct'), ('close_breaker', 'close the breaker')], max_length=20, verbose_name='action')),
                ('choice', models.JSONField(default=dict, help_text='Selection of the rows.', verbose_name='choice')),
                ('reason', models.TextField(blank=True, verbose_name='reason')),
                ('by', models.CharField(max_length=150, verbose_name='by')),
                ('state', models.CharField(choices=[('running', 'running'), ('finished', 'finished'), ('given_up', 'given up')], default='running', max_length=10, verbose_name='state')),
                ('started_at', models.DateTimeField(verbose_name='started at')),
                ('seen_at', models.DateTimeField(verbose_name='last heartbeat')),
                ('finished_at', models.DateTimeField(blank=True, null=True, verbose_name='finished at')),
                ('expected', models.PositiveIntegerField(default=0, verbose_name='expected rows')),
                ('touched', models.PositiveIntegerField(default=0, verbose_name='changed rows')),
                ('cursor', models.BigIntegerField(default=0, verbose_name='cursor')),
                ('until', models.BigIntegerField(default=0, help_text='The last row that existed at the start.', verbose_name='until')),
                ('rate', models.FloatField(blank=True, null=True, verbose_name='maximum of rows per second')),
            ],
            options={
                'verbose_name': 'operation',
                'verbose_name_plural': 'operations',
                'indexes': [
                    models.Index(condition=models.Q(('state', 'running')), fields=['id'], name='outbox_operation_running'),
                ],
            },
        ),
        migrations.CreateModel(
            name='Counter',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=40, verbose_name='name')),
                ('label', models.CharField(blank=True, max_length=150, verbose_name='label')),
                ('part', models.CharField(blank=True, max_length=20, verbose_name='part')),
                ('value', models.FloatField(default=0, verbose_name='value')),
            ],
            options={
                'verbose_name': 'counter',
                'verbose_name_plural': 'counters',
                'constraints': [
                    models.UniqueConstraint(fields=('name', 'label', 'part'), name='outbox_counter_once'),
                ],
            },
        ),
        migrations.CreateModel(
            name='Heartbeat',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('relay', 'relay'), ('worker', 'worker'), ('beat', 'beat'), ('broker', 'broker: a message passed through it'), ('canary', 'canary'), ('outage', 'outage of the database')], max_length=10, verbose_name='kind')),
                ('name', models.CharField(max_length=200, verbose_name='name')),
                ('queues', models.JSONField(default=list, verbose_name='queues')),
                ('started_at', models.DateTimeField(verbose_name='started at')),
                ('seen_at', models.DateTimeField(verbose_name='seen at')),
                ('host_offset', models.FloatField(default=0, help_text="Seconds by which the host's clock is ahead of the database's.", verbose_name='host clock ahead by')),
            ],
            options={
                'verbose_name': 'heartbeat',
                'verbose_name_plural': 'heartbeats',
                'constraints': [
                    models.UniqueConstraint(fields=('kind', 'name'), name='outbox_heartbeat_once'),
                ],
            },
        ),
        migrations.CreateModel(
            name='Minute',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('minute', models.DateTimeField(verbose_name='minute')),
                ('handler', models.CharField(blank=True, max_length=150, verbose_name='handler')),
                ('events', models.PositiveBigIntegerField(default=0, editable=False)),
                ('done', models.PositiveBigIntegerField(default=0, editable=False)),
                ('failed', models.PositiveBigIntegerField(default=0, editable=False)),
                ('dead', models.PositiveBigIntegerField(default=0, editable=False)),
                ('seconds', models.FloatField(default=0, help_text='Total run time of the handlers.')),
                ('lag_0', models.PositiveBigIntegerField(default=0, editable=False)),
                ('lag_1', models.PositiveBigIntegerField(default=0, editable=False)),
                ('lag_2', models.PositiveBigIntegerField(default=0, editable=False)),
                ('lag_3', models.PositiveBigIntegerField(default=0, editable=False)),
                ('lag_4', models.PositiveBigIntegerField(default=0, editable=False)),
                ('lag_5', models.PositiveBigIntegerField(default=0, editable=False)),
                ('lag_6', models.PositiveBigIntegerField(default=0, editable=False)),
                ('lag_7', models.PositiveBigIntegerField(default=0, editable=False)),
                ('lag_8', models.PositiveBigIntegerField(default=0, editable=False)),
                ('lag_9', models.PositiveBigIntegerField(default=0, editable=False)),
                ('lag_10', models.PositiveBigIntegerField(default=0, editable=False)),
                ('lag_11', models.PositiveBigIntegerField(default=0, editable=False)),
            ],
            options={
                'verbose_name': 'overview',
                'verbose_name_plural': 'overview',
                'constraints': [
                    models.UniqueConstraint(fields=('handler', 'minute'), name='outbox_minute_once'),
                ],
            },
        ),
        migrations.RunPython(set_storage_parameters, migrations.RunPython.noop),
    ]
