from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name='Reconciliation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('checked_at', models.DateTimeField(verbose_name='checked at')),
                ('seconds', models.FloatField(verbose_name='seconds')),
                ('balanced', models.BooleanField(verbose_name='balanced')),
                ('differences', models.PositiveIntegerField(verbose_name='differences')),
                ('unsettled', models.PositiveIntegerField(help_text='The number of keys, such as orders, with owed deliveries.', verbose_name='unsettled')),
                ('report', models.JSONField(verbose_name='report')),
            ],
            options={
                'verbose_name': 'reconciliation',
                'verbose_name_plural': 'reconciliations',
                'ordering': ['-id'],
            },
        ),
    ]
