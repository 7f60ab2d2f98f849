"""The correlation id of a request, in the history of refunds. Payments continue meanwhile."""

from django.db import migrations, models

from shared.migrations_beside_writes import AddColumn


class Migration(migrations.Migration):

    dependencies = [
        ('payments', '0002_payment_history_correlation'),
    ]

    operations = [
        AddColumn(
            model_name='refundhistory',
            name='correlation_id',
            field=models.UUIDField(editable=False, help_text='Of the request to the bank that follows, if one does.', null=True, verbose_name='correlation id'),
        ),
    ]
