"""Alerts, their messages by channel, and claims."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('outbox', '0017_few_lags'),
    ]

    operations = [
        migrations.CreateModel(
            name='AlertClaim',
            fields=[
                ('name', models.CharField(max_length=60, primary_key=True, serialize=False, verbose_name='name')),
                ('token', models.CharField(max_length=32, verbose_name='token')),
                ('until', models.DateTimeField(help_text='Then another process may claim it.', verbose_name='until')),
            ],
            options={
                'verbose_name': 'alert claim',
                'verbose_name_plural': 'alert claims',
            },
        ),
        migrations.CreateModel(
            name='Alert',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('problem', models.CharField(help_text='The same for each check that finds it.', max_length=200, verbose_name='problem')),
                ('trigger', models.CharField(max_length=20, verbose_name='trigger')),
                ('text', models.TextField(help_text='As the latest check found it.', verbose_name='text')),
                ('path', models.CharField(blank=True, max_length=500, verbose_name='admin page')),
                ('opened_at', models.DateTimeField(verbose_name='opened at')),
                ('seen_at', models.DateTimeField(help_text='Time of the latest check that found it.', verbose_name='seen at')),
                ('resolved_at', models.DateTimeField(blank=True, null=True, verbose_name='resolved at')),
            ],
            options={
                'verbose_name': 'alert',
                'verbose_name_plural': 'alerts',
                'indexes': [models.Index(condition=models.Q(('resolved_at__isnull', False)), fields=['resolved_at'], name='outbox_alert_resolved')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('resolved_at__isnull', True)), fields=('problem',), name='outbox_alert_open')],
            },
        ),
        migrations.CreateModel(
            name='AlertNotice',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('channel', models.CharField(max_length=50, verbose_name='channel')),
                ('sent_at', models.DateTimeField(blank=True, help_text='Time of the latest message.', null=True, verbose_name='sent at')),
                ('retry_at', models.DateTimeField(blank=True, help_text='No message before, after a failure.', null=True, verbose_name='retry at')),
                ('failures', models.PositiveIntegerField(default=0, verbose_name='failures')),
                ('error', models.CharField(blank=True, max_length=300, verbose_name='error')),
                ('closed_at', models.DateTimeField(blank=True, help_text='No message follows.', null=True, verbose_name='closed at')),
                ('alert', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='notices', to='outbox.alert', verbose_name='alert')),
            ],
            options={
                'verbose_name': 'alert notice',
                'verbose_name_plural': 'alert notices',
                'indexes': [models.Index(condition=models.Q(('closed_at__isnull', True)), fields=['channel', 'id'], name='outbox_alertnotice_open')],
                'constraints': [models.UniqueConstraint(fields=('alert', 'channel'), name='outbox_alertnotice_once')],
            },
        ),
    ]
