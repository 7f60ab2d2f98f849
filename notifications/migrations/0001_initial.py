import django.db.models.deletion
import outbox.ids
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name='Email',
            fields=[
                ('id', models.UUIDField(default=outbox.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('order_id', models.UUIDField(verbose_name='order')),
                ('kind', models.CharField(choices=[('acknowledgement', 'acknowledgement'), ('payment', 'payment'), ('ready_to_ship', 'ready to ship'), ('shipping', 'shipping'), ('cancellation', 'cancellation'), ('refund', 'refund')], max_length=20, verbose_name='kind')),
                ('about', models.CharField(blank=True, default='', help_text='The refund, because an order may have several.', max_length=100, verbose_name='about')),
                ('message_id', models.CharField(max_length=320, unique=True, verbose_name='Message-ID')),
                ('recipient', models.EmailField(max_length=254, verbose_name='recipient')),
                ('mailbox', models.CharField(blank=True, default='', editable=False, help_text='The recipient in lower case without a +tag, for the limit.', max_length=254, verbose_name='mailbox')),
                ('language', models.CharField(max_length=10, verbose_name='language')),
                ('subject', models.CharField(max_length=200, verbose_name='subject')),
                ('text', models.TextField(verbose_name='text')),
                ('html', models.TextField(verbose_name='HTML')),
                ('written_at', models.DateTimeField(auto_now_add=True, verbose_name='written at')),
                ('sent_at', models.DateTimeField(blank=True, null=True, verbose_name='sent at')),
                ('refusal', models.CharField(blank=True, default='', help_text='The permanent refusal of the mail server.', max_length=500, verbose_name='reason of the refusal')),
                ('suppressed_because', models.CharField(blank=True, choices=[('limit', 'too many e-mails to this recipient'), ('address', 'not an address on the internet')], default='', help_text='Why the e-mail was written but not sent. Staff may send it again.', max_length=10, verbose_name='reason of the suppression')),
            ],
            options={
                'verbose_name': 'e-mail',
                'verbose_name_plural': 'e-mails',
                'ordering': ['-id'],
                'permissions': [('resend_email', 'Can send e-mails again')],
                'indexes': [
                    models.Index(fields=['mailbox', 'written_at'], name='email_mailbox'),
                ],
                'constraints': [
                    models.UniqueConstraint(fields=('order_id', 'kind', 'about'), name='email_once_per_order_and_kind'),
                ],
            },
        ),
        migrations.CreateModel(
            name='Resend',
            fields=[
                ('id', models.UUIDField(default=outbox.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('email', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='resends', to='notifications.email', verbose_name='e-mail')),
                ('requested_by', models.CharField(max_length=150, verbose_name='requested by')),
                ('requested_at', models.DateTimeField(auto_now_add=True, verbose_name='requested at')),
                ('sent_at', models.DateTimeField(blank=True, null=True, verbose_name='sent at')),
            ],
            options={
                'verbose_name': 'resend',
                'verbose_name_plural': 'resends',
                'ordering': ['id'],
            },
        ),
    ]
