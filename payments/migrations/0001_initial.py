import django.db.models.deletion
import django.utils.timezone
import outbox.ids
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name='Payment',
            fields=[
                ('id', models.UUIDField(default=outbox.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('order_id', models.UUIDField(unique=True, verbose_name='order')),
                ('status', models.CharField(choices=[('intended', 'intended'), ('authorized', 'authorized'), ('declined', 'declined'), ('capturing', 'being captured'), ('captured', 'captured'), ('voiding', 'being voided'), ('voided', 'voided'), ('refunding', 'being refunded'), ('refunded', 'refunded'), ('forestalled', 'cancelled before the first request')], default='', max_length=16, verbose_name='status')),
                ('amount', models.PositiveBigIntegerField(help_text='In minor units. Empty if the bank got no request.', null=True, verbose_name='amount')),
                ('currency', models.CharField(blank=True, max_length=3, verbose_name='currency')),
                ('payment_method', models.CharField(blank=True, help_text='A token, never a card number.', max_length=200, verbose_name='payment method')),
                ('declined_reason', models.CharField(blank=True, max_length=100, verbose_name='reason of the decline')),
                ('authorization_id', models.CharField(blank=True, max_length=100, verbose_name='authorization')),
                ('capture_id', models.CharField(blank=True, max_length=100, verbose_name='capture')),
                ('void_id', models.CharField(blank=True, max_length=100, verbose_name='void')),
                ('refund_amount', models.PositiveBigIntegerField(default=0, help_text='The sum of all refunds, done or intended.', verbose_name='refund amount')),
                ('intended_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='intended at')),
                ('moved_at', models.DateTimeField(default=django.utils.timezone.now, help_text='The time of the last status change.', verbose_name='changed at')),
                ('cancelled_at', models.DateTimeField(help_text='When payments processed the cancellation of the order.', null=True, verbose_name='cancelled at')),
                ('asked_at', models.DateTimeField(help_text='When the bank was last asked under a key that it may have deleted.', null=True, verbose_name='looked up at')),
            ],
            options={
                'verbose_name': 'payment',
                'verbose_name_plural': 'payments',
                'ordering': ['-id'],
                'indexes': [
                    models.Index(fields=['status', 'moved_at'], name='payments_by_status'),
                ],
                'constraints': [
                    models.CheckConstraint(condition=models.Q(('status__in', ['', 'intended', 'authorized', 'declined', 'capturing', 'captured', 'voiding', 'voided', 'refunding', 'refunded', 'forestalled'])), name='payment_status_is_known'),
                    models.CheckConstraint(condition=models.Q(('status__in', ['', 'forestalled']), models.Q(('amount__gte', 1), models.Q(('currency', ''), _negated=True), models.Q(('payment_method', ''), _negated=True)), _connector='OR'), name='payment_of_something'),
                    models.CheckConstraint(condition=models.Q(('status', 'declined'), ('declined_reason', ''), _connector='XOR'), name='payment_declined_for_a_reason'),
                    models.CheckConstraint(condition=models.Q(models.Q(('status__in', ['authorized', 'capturing', 'captured', 'voiding', 'voided', 'refunding', 'refunded']), _negated=True), models.Q(('authorization_id', ''), _negated=True), _connector='OR'), name='payment_held_under_an_id'),
                    models.CheckConstraint(condition=models.Q(('status__in', ['captured', 'refunding', 'refunded']), ('capture_id', ''), _connector='XOR'), name='payment_captured_under_an_id'),
                    models.CheckConstraint(condition=models.Q(('status', 'voided'), ('void_id', ''), _connector='XOR'), name='payment_voided_under_an_id'),
                    models.CheckConstraint(condition=models.Q(('refund_amount', 0), models.Q(('status__in', ['captured', 'refunding', 'refunded']), ('refund_amount__lte', models.F('amount'))), _connector='OR'), name='payment_refunds_what_was_captured'),
                    models.CheckConstraint(condition=models.Q(models.Q(('status', 'forestalled'), _negated=True), ('cancelled_at__isnull', False), _connector='OR'), name='payment_forestalled_by_a_cancellation'),
                ],
            },
        ),
        migrations.CreateModel(
            name='PaymentHistory',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('payment', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='history', to='payments.payment', verbose_name='payment')),
                ('from_status', models.CharField(blank=True, choices=[('intended', 'intended'), ('authorized', 'authorized'), ('declined', 'declined'), ('capturing', 'being captured'), ('captured', 'captured'), ('voiding', 'being voided'), ('voided', 'voided'), ('refunding', 'being refunded'), ('refunded', 'refunded'), ('forestalled', 'cancelled before the first request')], max_length=16, verbose_name='from')),
                ('to_status', models.CharField(choices=[('intended', 'intended'), ('authorized', 'authorized'), ('declined', 'declined'), ('capturing', 'being captured'), ('captured', 'captured'), ('voiding', 'being voided'), ('voided', 'voided'), ('refunding', 'being refunded'), ('refunded', 'refunded'), ('forestalled', 'cancelled before the first request')], max_length=16, verbose_name='to')),
                ('cause', models.CharField(max_length=200, verbose_name='cause')),
                ('moved_at', models.DateTimeField(auto_now_add=True, verbose_name='changed at')),
            ],
            options={
                'verbose_name': 'status change',
                'verbose_name_plural': 'history',
                'ordering': ['id'],
            },
        ),
        migrations.CreateModel(
            name='Refund',
            fields=[
                ('id', models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ('payment', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='refunds', to='payments.payment', verbose_name='payment')),
                ('status', models.CharField(choices=[('intended', 'intended'), ('refunded', 'refunded')], default='', max_length=16, verbose_name='status')),
                ('amount', models.PositiveBigIntegerField(help_text='In minor units.', verbose_name='amount')),
                ('bank_id', models.CharField(blank=True, max_length=100, verbose_name="the bank's id")),
                ('moved_at', models.DateTimeField(default=django.utils.timezone.now, help_text='The time of the last status change.', verbose_name='changed at')),
            ],
            options={
                'verbose_name': 'refund',
                'verbose_name_plural': 'refunds',
                'ordering': ['-id'],
                'constraints': [
                    models.CheckConstraint(condition=models.Q(('amount__gte', 1)), name='refund_of_something'),
                    models.CheckConstraint(condition=models.Q(('status', 'refunded'), ('bank_id', ''), _connector='XOR'), name='refund_done_under_an_id'),
                    models.UniqueConstraint(condition=models.Q(('bank_id', ''), _negated=True), fields=('bank_id',), name='refund_once_at_the_bank'),
                ],
            },
        ),
        migrations.CreateModel(
            name='RefundHistory',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('refund', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='history', to='payments.refund', verbose_name='refund')),
                ('from_status', models.CharField(blank=True, choices=[('intended', 'intended'), ('refunded', 'refunded')], max_length=16, verbose_name='from')),
                ('to_status', models.CharField(choices=[('intended', 'intended'), ('refunded', 'refunded')], max_length=16, verbose_name='to')),
                ('cause', models.CharField(max_length=200, verbose_name='cause')),
                ('moved_at', models.DateTimeField(auto_now_add=True, verbose_name='changed at')),
            ],
            options={
                'verbose_name': 'status change',
                'verbose_name_plural': 'history',
                'ordering': ['id'],
            },
        ),
        migrations.CreateModel(
            name='BankReport',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('report_id', models.CharField(max_length=200, unique=True, verbose_name="the bank's id")),
                ('kind', models.CharField(max_length=200, verbose_name='kind')),
                ('reference', models.CharField(blank=True, max_length=200, verbose_name='reference')),
                ('body', models.TextField(verbose_name='body')),
                ('received_at', models.DateTimeField(auto_now_add=True, verbose_name='received at')),
                ('processed_at', models.DateTimeField(null=True, verbose_name='processed at')),
            ],
            options={
                'verbose_name': 'bank report',
                'verbose_name_plural': 'bank reports',
                'ordering': ['-id'],
            },
        ),
    ]
