from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('outbox', '0012_task_priority_index'),
    ]

    operations = [
        migrations.CreateModel(
            name='DedupeKey',
            fields=[
                ('digest', models.CharField(help_text="SHA-256 of the event's name and the key.", max_length=64, primary_key=True, serialize=False, verbose_name='digest')),
                ('event', models.UUIDField(unique=True, verbose_name='event id')),
            ],
            options={
                'verbose_name': 'deduplication key',
                'verbose_name_plural': 'deduplication keys',
            },
        ),
    ]
