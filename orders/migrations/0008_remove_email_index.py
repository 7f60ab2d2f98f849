"""The index of e-mail addresses as written is not used any more."""

from django.db import migrations

from shared.migrations_beside_writes import RemoveIndex


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('orders', '0007_email_in_any_case'),
    ]

    operations = [
        RemoveIndex(
            model_name='order',
            name='orders_by_email',
        ),
    ]
