import django.db.models.deletion
import outbox.ids
import outbox.sinks.signatures
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ('auth', '__first__'),
    ]

    operations = [
        migrations.CreateModel(
            name='Endpoint',
            fields=[
                ('id', models.UUIDField(default=outbox.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='owner')),
                ('url', models.CharField(max_length=500, verbose_name='URL')),
                ('url_state', models.CharField(choices=[('unchecked', 'not checked yet'), ('allowed', 'allowed'), ('unresolved', 'host not found'), ('refused', 'its host is not allowed')], default='unchecked', max_length=10, verbose_name='state of the URL')),
                ('description', models.CharField(blank=True, max_length=200, verbose_name='description')),
                ('event_types', models.JSONField(verbose_name='event types')),
                ('secret', models.CharField(default=outbox.sinks.signatures.new_secret, editable=False, max_length=100, verbose_name='secret')),
                ('old_secret', models.CharField(blank=True, editable=False, max_length=100, verbose_name='old secret')),
                ('old_secret_until', models.DateTimeField(blank=True, null=True, verbose_name='old secret signs until')),
                ('disabled_at', models.DateTimeField(blank=True, null=True, verbose_name='disabled at')),
                ('disabled_because', models.CharField(blank=True, choices=[('by_owner', 'by its owner'), ('by_staff', 'by staff'), ('gone', 'it answered 410 Gone'), ('failing', 'it failed for too long'), ('refused', 'its host is not allowed')], max_length=10, verbose_name='disabled because')),
                ('disabled_note', models.CharField(blank=True, max_length=200, verbose_name='note')),
                ('failures', models.PositiveIntegerField(default=0, verbose_name='failures in a row')),
                ('failing_since', models.DateTimeField(blank=True, null=True, verbose_name='failing since')),
                ('rests_until', models.DateTimeField(blank=True, null=True, verbose_name='paused until')),
                ('last_success_at', models.DateTimeField(blank=True, null=True, verbose_name='last success')),
                ('last_failure_at', models.DateTimeField(blank=True, null=True, verbose_name='last failure')),
                ('last_failure', models.CharField(blank=True, max_length=300, verbose_name='last error')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created at')),
                ('changed_at', models.DateTimeField(auto_now=True, verbose_name='changed at')),
            ],
            options={
                'verbose_name': 'endpoint',
                'verbose_name_plural': 'endpoints',
                'ordering': ['-id'],
                'permissions': [('disable_endpoint', 'Can disable and enable endpoints')],
            },
        ),
        migrations.CreateModel(
            name='Message',
            fields=[
                ('id', models.UUIDField(default=outbox.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('endpoint', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='messages', to='webhooks.endpoint', verbose_name='endpoint')),
                ('event_id', models.UUIDField(verbose_name='event')),
                ('type', models.CharField(max_length=40, verbose_name='type')),
                ('body', models.TextField(verbose_name='body')),
                ('state', models.CharField(choices=[('waiting', 'waiting'), ('sent', 'sent'), ('given_up', 'given up'), ('dropped', 'dropped, because the endpoint is disabled')], default='waiting', max_length=10, verbose_name='state')),
                ('attempts', models.PositiveIntegerField(default=0, verbose_name='attempts')),
                ('sending_until', models.DateTimeField(blank=True, null=True, verbose_name='in flight until')),
                ('created_at', models.DateTimeField(auto_now_add=True, db_index=True, verbose_name='created at')),
                ('settled_at', models.DateTimeField(blank=True, null=True, verbose_name='settled at')),
            ],
            options={
                'verbose_name': 'message',
                'verbose_name_plural': 'messages',
                'ordering': ['-id'],
                'indexes': [
                    models.Index(condition=models.Q(('sending_until__isnull', False)), fields=['endpoint', 'sending_until'], name='webhook_being_sent'),
                ],
                'constraints': [
                    models.UniqueConstraint(fields=('endpoint', 'event_id'), name='webhook_once_per_event_and_endpoint'),
                ],
            },
        ),
        migrations.CreateModel(
            name='Attempt',
            fields=[
                ('id', models.UUIDField(default=outbox.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('endpoint', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='attempts', to='webhooks.endpoint', verbose_name='endpoint')),
                ('message', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='log', to='webhooks.message', verbose_name='message')),
                ('number', models.PositiveIntegerField(verbose_name='attempt')),
                ('status_code', models.PositiveSmallIntegerField(null=True, verbose_name='status code')),
                ('error', models.CharField(blank=True, max_length=300, verbose_name='error')),
                ('duration_ms', models.PositiveIntegerField(verbose_name='duration (ms)')),
                ('at', models.DateTimeField(auto_now_add=True, verbose_name='at')),
            ],
            options={
                'verbose_name': 'delivery attempt',
                'verbose_name_plural': 'delivery attempts',
                'ordering': ['-id'],
                'indexes': [
                    models.Index(fields=['endpoint', '-id'], name='webhook_log'),
                ],
            },
        ),
    ]
