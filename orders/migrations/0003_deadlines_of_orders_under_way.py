from django.db import migrations
from django.utils import timezone

from orders.deadlines import length_of


def give_them_their_time(apps, schema_editor):
    """Start the full deadline now for each order under way during the deploy."""
    orders = apps.get_model("orders", "Order").objects.using(schema_editor.connection.alias)
    placed = orders.filter(status="placed")
    waiting = {
        "stock": placed.filter(stock_reserved_at=None),
        "payment": placed.exclude(stock_reserved_at=None),
        "capture": orders.filter(status="confirmed"),
        "shipping": orders.filter(status="ready_to_ship"),
    }
    for awaits, rows in waiting.items():
        length = length_of(awaits)
        rows.update(awaits=awaits, deadline_at=timezone.now() + length if length else None)


class Migration(migrations.Migration):
    dependencies = [("orders", "0002_deadlines")]
    operations = [migrations.RunPython(give_them_their_time, migrations.RunPython.noop)]
