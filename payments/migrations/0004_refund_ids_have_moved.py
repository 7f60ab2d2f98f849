from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("payments", "0003_refunds_of_before")]

    operations = [
        migrations.RemoveField(
            model_name='payment',
            name='refund_id',
        ),
        migrations.AddConstraint(
            model_name='payment',
            constraint=models.CheckConstraint(condition=models.Q(('refund_amount', 0), models.Q(('status__in', ['captured', 'refunding', 'refunded']), ('refund_amount__lte', models.F('amount'))), _connector='OR'), name='payment_refunds_what_was_captured'),
        ),
    ]
