from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Order",
            fields=[
                ("id", models.AutoField(primary_key=True, serialize=False)),
                ("number", models.CharField(max_length=50, unique=True)),
                ("placed_with", models.CharField(max_length=10)),
            ],
        ),
        migrations.CreateModel(
            name="Entry",
            fields=[
                ("id", models.AutoField(primary_key=True, serialize=False)),
                ("effect", models.CharField(max_length=50)),
                ("order", models.CharField(max_length=50)),
                ("amount", models.IntegerField()),
                ("emitted_with", models.CharField(max_length=10)),
                ("handled_with", models.CharField(max_length=10)),
            ],
        ),
    ]
