import django.db.models.deletion
import orders.models
import outbox.ids
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ('auth', '__first__'),
    ]

    operations = [
        migrations.CreateModel(
            name='Order',
            fields=[
                ('id', models.UUIDField(default=outbox.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('reference', models.CharField(default=orders.models.new_reference, editable=False, max_length=14, unique=True, verbose_name='reference')),
                ('customer', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='orders', to=settings.AUTH_USER_MODEL, verbose_name='customer')),
                ('email', models.EmailField(max_length=254, verbose_name='e-mail address')),
                ('language', models.CharField(max_length=10, verbose_name='language')),
                ('status', models.CharField(choices=[('placed', 'placed'), ('confirmed', 'confirmed'), ('ready_to_ship', 'ready to ship'), ('shipped', 'shipped'), ('received', 'received'), ('cancelled', 'cancelled')], default='', max_length=16, verbose_name='status')),
                ('total_amount', models.PositiveBigIntegerField(help_text='In minor units.', verbose_name='total')),
                ('currency', models.CharField(max_length=3, verbose_name='currency')),
                ('stock_reserved_at', models.DateTimeField(blank=True, null=True, verbose_name='stock reserved at')),
                ('payment_authorized_at', models.DateTimeField(blank=True, null=True, verbose_name='payment authorized at')),
                ('awaits', models.CharField(blank=True, choices=[('stock', 'stock'), ('payment', 'authorization'), ('capture', 'capture'), ('shipping', 'shipping')], default='', max_length=16, verbose_name='waits for')),
                ('deadline_at', models.DateTimeField(blank=True, help_text='The end of the current wait.', null=True, verbose_name='deadline')),
                ('cancel_reason', models.CharField(blank=True, choices=[('out_of_stock', 'out of stock'), ('payment_declined', 'payment declined'), ('requested', 'requested'), ('overdue', 'not completed in time')], max_length=32, verbose_name='reason for the cancellation')),
                ('carrier', models.CharField(blank=True, max_length=100, verbose_name='carrier')),
                ('tracking_number', models.CharField(blank=True, max_length=100, verbose_name='tracking number')),
                ('placed_at', models.DateTimeField(auto_now_add=True, verbose_name='placed at')),
                ('changed_at', models.DateTimeField(auto_now=True, verbose_name='changed at')),
            ],
            options={
                'verbose_name': 'order',
                'verbose_name_plural': 'orders',
                'ordering': ['-id'],
                'permissions': [('ship_order', 'Can mark orders as shipped and received'), ('cancel_order', 'Can cancel orders'), ('refund_order', 'Can refund orders')],
                'indexes': [
                    models.Index(fields=['customer', '-id'], name='orders_of_customer'),
                    models.Index(fields=['status', '-id'], name='orders_by_status'),
                    models.Index(condition=models.Q(('deadline_at__isnull', False)), fields=['deadline_at'], name='orders_by_deadline'),
                ],
                'constraints': [
                    models.CheckConstraint(condition=models.Q(('status', ''), _negated=True), name='order_has_a_status'),
                    models.CheckConstraint(condition=models.Q(models.Q(('status', 'cancelled'), models.Q(('cancel_reason', ''), _negated=True)), models.Q(models.Q(('status', 'cancelled'), _negated=True), ('cancel_reason', '')), _connector='OR'), name='order_cancelled_for_a_reason'),
                    models.CheckConstraint(condition=models.Q(('deadline_at', None), models.Q(('awaits', ''), _negated=True), _connector='OR'), name='order_deadline_of_something'),
                ],
            },
        ),
        migrations.CreateModel(
            name='OrderLine',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('order', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='lines', to='orders.order', verbose_name='order')),
                ('sku', models.CharField(max_length=64, verbose_name='SKU')),
                ('name', models.CharField(max_length=200, verbose_name='name')),
                ('unit_amount', models.PositiveBigIntegerField(help_text='In minor units.', verbose_name='unit price')),
                ('currency', models.CharField(max_length=3, verbose_name='currency')),
                ('quantity', models.PositiveIntegerField(verbose_name='quantity')),
            ],
            options={
                'verbose_name': 'line',
                'verbose_name_plural': 'lines',
                'ordering': ['id'],
                'constraints': [
                    models.UniqueConstraint(fields=('order', 'sku'), name='order_line_once_per_sku'),
                    models.CheckConstraint(condition=models.Q(('quantity__gte', 1)), name='order_line_has_a_quantity'),
                ],
            },
        ),
        migrations.CreateModel(
            name='OrderHistory',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('order', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='history', to='orders.order', verbose_name='order')),
                ('from_status', models.CharField(blank=True, choices=[('placed', 'placed'), ('confirmed', 'confirmed'), ('ready_to_ship', 'ready to ship'), ('shipped', 'shipped'), ('received', 'received'), ('cancelled', 'cancelled')], max_length=16, verbose_name='from')),
                ('to_status', models.CharField(choices=[('placed', 'placed'), ('confirmed', 'confirmed'), ('ready_to_ship', 'ready to ship'), ('shipped', 'shipped'), ('received', 'received'), ('cancelled', 'cancelled')], max_length=16, verbose_name='to')),
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
            name='RefundRequest',
            fields=[
                ('id', models.UUIDField(default=outbox.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('order', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='refunds', to='orders.order', verbose_name='order')),
                ('amount', models.PositiveBigIntegerField(help_text='In minor units.', verbose_name='amount')),
                ('return_stock', models.BooleanField(verbose_name='returns units to stock')),
                ('requested_by', models.CharField(max_length=150, verbose_name='requested by')),
                ('requested_at', models.DateTimeField(auto_now_add=True, verbose_name='requested at')),
            ],
            options={
                'verbose_name': 'refund',
                'verbose_name_plural': 'refunds',
                'ordering': ['id'],
                'constraints': [
                    models.CheckConstraint(condition=models.Q(('amount__gte', 1)), name='refund_request_of_something'),
                ],
            },
        ),
        migrations.CreateModel(
            name='RefundLine',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('refund', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='lines', to='orders.refundrequest', verbose_name='refund')),
                ('line', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='refunds', to='orders.orderline', verbose_name='line')),
                ('quantity', models.PositiveIntegerField(verbose_name='quantity')),
            ],
            options={
                'verbose_name': 'refunded line',
                'verbose_name_plural': 'refunded lines',
                'ordering': ['id'],
                'constraints': [
                    models.UniqueConstraint(fields=('refund', 'line'), name='refund_line_once'),
                    models.CheckConstraint(condition=models.Q(('quantity__gte', 1)), name='refund_line_of_something'),
                ],
            },
        ),
    ]
