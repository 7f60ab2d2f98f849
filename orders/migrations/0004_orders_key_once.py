"""The unique constraint of the digests. Orders are placed while PostgreSQL builds its index."""

from django.db import migrations, models

from shared.migrations_beside_writes import AddUniqueConstraint


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('orders', '0003_key_digest'),
    ]

    operations = [
        AddUniqueConstraint(
            model_name='order',
            constraint=models.UniqueConstraint(fields=('customer', 'placed_with'), name='order_placed_once_with_a_key'),
        ),
    ]
