from django.conf import settings
from django.db import migrations

ACTIONS = ("orders.cancel_order", "orders.ship_order", "orders.receive_order")


def name_users_by_id(apps, schema_editor):
    """Replace names of users by ids: a name may be an e-mail address."""
    using = schema_editor.connection.alias
    users = apps.get_model(settings.AUTH_USER_MODEL).objects.using(using)
    history = apps.get_model("orders", "OrderHistory").objects.using(using)
    refunds = apps.get_model("orders", "RefundRequest").objects.using(using)

    def by_id(name):
        if name.startswith("user:"):  # no name has a colon
            return name
        pk = users.filter(username=name).values_list("pk", flat=True).first()
        return "a former user" if pk is None else f"user:{pk}"

    for action in ACTIONS:
        prefix = f"{action} by "
        for cause in _distinct(history.filter(cause__startswith=prefix), "cause"):
            name = cause.removeprefix(prefix)
            history.filter(cause=cause).update(cause=prefix + by_id(name))
    for name in _distinct(refunds, "requested_by"):
        refunds.filter(requested_by=name).update(requested_by=by_id(name))


def _distinct(rows, column):
    return list(rows.order_by().values_list(column, flat=True).distinct())


class Migration(migrations.Migration):
    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("orders", "0004_refunds"),
    ]
    operations = [migrations.RunPython(name_users_by_id, migrations.RunPython.noop)]
