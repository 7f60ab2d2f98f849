"""The digest of an order's idempotency key. Orders are placed while the column is added."""

from django.db import migrations, models

from shared.migrations_beside_writes import AddColumn


class Migration(migrations.Migration):

    dependencies = [
        ('orders', '0002_email_index'),
    ]

    operations = [
        AddColumn(
            model_name='order',
            name='placed_with',
            field=models.CharField(editable=False, max_length=64, null=True, verbose_name='digest of the idempotency key'),
        ),
    ]
