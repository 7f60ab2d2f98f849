from django.db import migrations


def make_rows_of_them(apps, schema_editor):
    """Each payment had one refund at most, of all of it; its idempotency key stays the same."""
    alias = schema_editor.connection.alias
    payments = apps.get_model("payments", "Payment").objects.using(alias)
    refunds = apps.get_model("payments", "Refund").objects.using(alias)
    for payment in payments.filter(status__in=["refunding", "refunded"]).iterator():
        refunds.create(
            id=payment.id,
            payment=payment,
            amount=payment.amount,
            bank_id=payment.refund_id,
            status="refunded" if payment.refund_id else "intended",
            moved_at=payment.moved_at,
        )
        payments.filter(pk=payment.pk).update(refund_amount=payment.amount)


class Migration(migrations.Migration):
    dependencies = [("payments", "0002_refunds")]
    operations = [migrations.RunPython(make_rows_of_them)]
