"""The tenant of delayed events, in a migration of its own: a migration alters one table."""

from django.db import migrations, models

from outbox.schema import AddFieldBesideWrites


class Migration(migrations.Migration):

    dependencies = [
        ('outbox', '0021_tenant'),
    ]

    operations = [
        AddFieldBesideWrites(
            model_name='delayedevent',
            name='tenant',
            field=models.CharField(blank=True, max_length=100, null=True, verbose_name='tenant'),
        ),
    ]
