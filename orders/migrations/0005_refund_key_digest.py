"""The digest of a refund's idempotency key. Refunds are requested while the column is added."""

from django.db import migrations, models

from shared.migrations_beside_writes import AddColumn


class Migration(migrations.Migration):

    dependencies = [
        ('orders', '0004_orders_key_once'),
    ]

    operations = [
        AddColumn(
            model_name='refundrequest',
            name='requested_with',
            field=models.CharField(editable=False, max_length=64, null=True, verbose_name='digest of the idempotency key'),
        ),
    ]
