from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name='Parcel',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('parcel', models.CharField(max_length=50)),
                ('event', models.CharField(max_length=50)),
                ('number', models.PositiveIntegerField(default=0)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=['parcel', 'event'], name='depot_parcel_once')],
            },
        ),
        migrations.CreateModel(
            name='Entry',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('handler', models.CharField(max_length=50)),
                ('event', models.CharField(max_length=50)),
                ('parcel', models.CharField(max_length=50)),
                ('number', models.PositiveIntegerField()),
                ('target', models.CharField(max_length=50)),
                ('emitted_with', models.CharField(max_length=50)),
                ('handled_with', models.CharField(max_length=50)),
            ],
        ),
    ]
