from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("till", "0001_initial")]
    operations = [
        migrations.AddField(
            model_name="order",
            name="shipping",
            field=models.IntegerField(default=0, db_default=0),
        ),
    ]
