"""The time of the last message of a source."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('outbox', '0005_tracestate'),
    ]

    operations = [
        migrations.AddField(
            model_name='sourcestate',
            name='last_at',
            field=models.DateTimeField(blank=True, help_text='Time when the counts were stored last, up to ten seconds later.', null=True, verbose_name='last message at'),
        ),
    ]
