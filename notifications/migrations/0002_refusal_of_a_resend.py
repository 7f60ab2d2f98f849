"""The refusal of a resend. Resends are requested and sent while the column is added."""

from django.db import migrations, models

from shared.migrations_beside_writes import AddColumn


class Migration(migrations.Migration):

    dependencies = [
        ('notifications', '0001_initial'),
    ]

    operations = [
        AddColumn(
            model_name='resend',
            name='refusal',
            field=models.CharField(blank=True, db_default='', default='', help_text='The permanent refusal of the mail server.', max_length=500, verbose_name='reason of the refusal'),
        ),
        # The text only: PostgreSQL and SQLite have nothing to do.
        migrations.AlterField(
            model_name='email',
            name='suppressed_because',
            field=models.CharField(blank=True, choices=[('limit', 'too many e-mails to this recipient'), ('address', 'not an address on the internet')], default='', help_text='Why the e-mail was written but not sent. Staff may send it again, unless the reason is its address.', max_length=10, verbose_name='reason of the suppression'),
        ),
    ]
