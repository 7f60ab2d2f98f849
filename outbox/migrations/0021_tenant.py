"""The tenant of events."""

from django.db import migrations, models

from outbox.schema import AddFieldBesideWrites


class Migration(migrations.Migration):

    dependencies = [
        ('outbox', '0020_heartbeat_failure'),
    ]

    operations = [
        AddFieldBesideWrites(
            model_name='event',
            name='tenant',
            field=models.CharField(blank=True, help_text='The tenant that OUTBOX["TENANT"] restores around handlers of the event.', max_length=100, null=True, verbose_name='tenant'),
        ),
    ]
