import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name='Product',
            fields=[
                ('sku', models.CharField(max_length=64, primary_key=True, serialize=False, verbose_name='SKU')),
                ('name', models.CharField(max_length=200, verbose_name='name')),
                ('price', models.PositiveBigIntegerField(help_text='In minor units.', verbose_name='price')),
                ('currency', models.CharField(max_length=3, verbose_name='currency')),
                ('on_sale', models.BooleanField(default=True, verbose_name='on sale')),
            ],
            options={
                'verbose_name': 'product',
                'verbose_name_plural': 'products',
                'ordering': ['sku'],
            },
        ),
        migrations.CreateModel(
            name='Stock',
            fields=[
                ('product', models.OneToOneField(db_column='sku', on_delete=django.db.models.deletion.PROTECT, primary_key=True, serialize=False, to='inventory.product', verbose_name='product')),
                ('on_hand', models.BigIntegerField(default=0, verbose_name='on hand')),
                ('reserved', models.BigIntegerField(default=0, verbose_name='reserved')),
            ],
            options={
                'verbose_name': 'stock',
                'verbose_name_plural': 'stock',
                'constraints': [
                    models.CheckConstraint(condition=models.Q(('reserved__gte', 0)), name='stock_reserved_not_negative'),
                    models.CheckConstraint(condition=models.Q(('reserved__lte', models.F('on_hand'))), name='stock_reserved_is_on_hand'),
                ],
            },
        ),
        migrations.CreateModel(
            name='Reservation',
            fields=[
                ('order_id', models.UUIDField(primary_key=True, serialize=False, verbose_name='order')),
                ('status', models.CharField(choices=[('asked', 'asked'), ('reserved', 'reserved'), ('refused', 'refused'), ('released', 'released'), ('issued', 'issued'), ('forestalled', 'released before it was reserved')], default='asked', max_length=16, verbose_name='status')),
                ('asked_at', models.DateTimeField(auto_now_add=True, verbose_name='requested at')),
                ('changed_at', models.DateTimeField(auto_now=True, verbose_name='changed at')),
            ],
            options={
                'verbose_name': 'reservation',
                'verbose_name_plural': 'reservations',
            },
        ),
        migrations.CreateModel(
            name='ReservationLine',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('reservation', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='lines', to='inventory.reservation', verbose_name='reservation')),
                ('product', models.ForeignKey(db_column='sku', on_delete=django.db.models.deletion.PROTECT, related_name='+', to='inventory.product', verbose_name='product')),
                ('quantity', models.PositiveIntegerField(verbose_name='quantity')),
                ('returned', models.PositiveIntegerField(default=0, help_text='Units that were returned to stock after a refund.', verbose_name='returned')),
            ],
            options={
                'verbose_name': 'line',
                'verbose_name_plural': 'lines',
                'ordering': ['product'],
                'constraints': [
                    models.UniqueConstraint(fields=('reservation', 'product'), name='reservation_line_once_per_product'),
                    models.CheckConstraint(condition=models.Q(('returned__lte', models.F('quantity'))), name='reservation_line_returned_at_most'),
                ],
            },
        ),
        migrations.CreateModel(
            name='StockMovement',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('product', models.ForeignKey(db_column='sku', on_delete=django.db.models.deletion.PROTECT, related_name='movements', to='inventory.product', verbose_name='product')),
                ('kind', models.CharField(choices=[('received', 'received'), ('reserved', 'reserved'), ('released', 'released'), ('issued', 'issued'), ('returned', 'returned')], max_length=16, verbose_name='kind')),
                ('on_hand', models.BigIntegerField(default=0, verbose_name='on hand')),
                ('reserved', models.BigIntegerField(default=0, verbose_name='reserved')),
                ('reference', models.CharField(help_text='The order, the refund, or the delivery note.', max_length=100, verbose_name='reference')),
                ('moved_at', models.DateTimeField(auto_now_add=True, verbose_name='changed at')),
            ],
            options={
                'verbose_name': 'stock movement',
                'verbose_name_plural': 'stock movements',
                'ordering': ['id'],
                'constraints': [
                    models.UniqueConstraint(fields=('product', 'kind', 'reference'), name='stock_movement_once_per_cause'),
                ],
            },
        ),
    ]
