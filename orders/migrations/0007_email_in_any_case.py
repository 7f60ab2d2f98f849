"""The index of e-mail addresses in any case. Orders are placed while PostgreSQL builds it."""

import django.db.models.functions.text
from django.db import migrations, models

from shared.migrations_beside_writes import AddIndex


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('orders', '0006_refunds_key_once'),
    ]

    operations = [
        AddIndex(
            model_name='order',
            index=models.Index(django.db.models.functions.text.Upper('email'), name='orders_by_email_in_any_case'),
        ),
    ]
