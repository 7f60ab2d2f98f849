"""The unique constraint of the digests. Refunds are requested while PostgreSQL builds its index."""

from django.db import migrations, models

from shared.migrations_beside_writes import AddUniqueConstraint


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('orders', '0005_refund_key_digest'),
    ]

    operations = [
        AddUniqueConstraint(
            model_name='refundrequest',
            constraint=models.UniqueConstraint(fields=('order', 'requested_by', 'requested_with'), name='refund_requested_once_with_a_key'),
        ),
    ]
