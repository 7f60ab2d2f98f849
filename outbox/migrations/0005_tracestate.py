"""The W3C trace state of events."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('outbox', '0004_settlements'),
    ]

    operations = [
        migrations.AddField(
            model_name='event',
            name='tracestate',
            field=models.CharField(blank=True, db_default='', default='', help_text='W3C tracestate of the emitter, at most 512 characters of it.', max_length=512, verbose_name='trace state'),
        ),
    ]
