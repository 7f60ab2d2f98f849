from django.db import migrations
from django.db.models import F


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


def put_their_ids_back(apps, schema_editor):
    """Of refunds in part only the sum is lost: there was no place for them."""
    alias = schema_editor.connection.alias
    payments = apps.get_model("payments", "Payment").objects.using(alias)
    refunds = apps.get_model("payments", "Refund").objects.using(alias)
    for refund in refunds.filter(pk=F("payment_id")).iterator():
        payments.filter(pk=refund.payment_id).update(refund_id=refund.bank_id)


class Migration(migrations.Migration):
    dependencies = [("payments", "0002_refunds")]
    operations = [migrations.RunPython(make_rows_of_them, put_their_ids_back)]
