from uuid import UUID

from django.db import migrations


def is_order(reference):
    try:
        UUID(reference)
    except ValueError:
        return False
    return True


def erase_bodies(apps, schema_editor):
    """Erase the bodies that nothing reads: of processed reports, and of those without an order."""
    reports = apps.get_model("payments", "BankReport").objects.using(schema_editor.connection.alias)
    reports.filter(processed_at__isnull=False).exclude(body="").update(body="")
    waiting = reports.filter(processed_at=None).exclude(body="").values_list("pk", "reference")
    for pk, reference in waiting.iterator():
        if not is_order(reference):
            reports.filter(pk=pk).update(body="")


class Migration(migrations.Migration):
    dependencies = [("payments", "0005_bank_webhooks")]
    operations = [migrations.RunPython(erase_bodies, migrations.RunPython.noop)]
