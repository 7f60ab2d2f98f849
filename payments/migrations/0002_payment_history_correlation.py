"""The correlation id of a request, in the history of payments. Payments continue meanwhile."""

from django.db import migrations, models

from shared.migrations_beside_writes import AddColumn


class Migration(migrations.Migration):

    dependencies = [
        ('payments', '0001_initial'),
    ]

    operations = [
        AddColumn(
            model_name='paymenthistory',
            name='correlation_id',
            field=models.UUIDField(editable=False, help_text='Of the request to the bank that follows, if one does.', null=True, verbose_name='correlation id'),
        ),
    ]
