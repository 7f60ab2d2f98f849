from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('webhooks', '0001_initial'),
    ]

    operations = [
        # The URLs that exist were checked when they were registered.
        migrations.AddField(
            model_name='endpoint',
            name='url_state',
            field=models.CharField(choices=[('unchecked', 'not checked yet'), ('allowed', 'allowed'), ('unresolved', 'host not found'), ('refused', 'its host is not allowed')], db_default='allowed', default='allowed', max_length=10, verbose_name='state of the URL'),
        ),
        migrations.AlterField(
            model_name='endpoint',
            name='url_state',
            field=models.CharField(choices=[('unchecked', 'not checked yet'), ('allowed', 'allowed'), ('unresolved', 'host not found'), ('refused', 'its host is not allowed')], db_default='allowed', default='unchecked', max_length=10, verbose_name='state of the URL'),
        ),
        migrations.AlterField(
            model_name='endpoint',
            name='disabled_because',
            field=models.CharField(blank=True, choices=[('by_owner', 'by its owner'), ('by_staff', 'by staff'), ('gone', 'it answered 410 Gone'), ('failing', 'it failed for too long'), ('refused', 'its host is not allowed')], max_length=10, verbose_name='disabled because'),
        ),
    ]
