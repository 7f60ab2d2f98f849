"""The correlation id of the last request to the bank. Payments continue meanwhile."""

from django.db import migrations, models

from shared.migrations_beside_writes import AddColumn


class Migration(migrations.Migration):

    dependencies = [
        ('payments', '0001_initial'),
    ]

    operations = [
        AddColumn(
            model_name='payment',
            name='correlation_id',
            field=models.UUIDField(editable=False, help_text='Shared with the events before the last request to the bank.', null=True, verbose_name='correlation id'),
        ),
    ]
