import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ('auth', '__first__'),
    ]

    operations = [
        migrations.CreateModel(
            name='StoredAnswer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='user')),
                ('path', models.CharField(max_length=255, verbose_name='path')),
                ('key', models.CharField(max_length=255, verbose_name='SHA-256 of the key')),
                ('sealed', models.TextField(blank=True, default='', help_text='Encrypted with the key. Empty after erasure.', verbose_name='answer')),
                ('stored_at', models.DateTimeField(auto_now_add=True, db_index=True, verbose_name='stored at')),
            ],
            options={
                'verbose_name': 'stored answer',
                'verbose_name_plural': 'stored answers',
                'constraints': [
                    models.UniqueConstraint(fields=('user', 'path', 'key'), name='answer_once_per_key'),
                ],
            },
        ),
        migrations.CreateModel(
            name='ApiToken',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='api_tokens', to=settings.AUTH_USER_MODEL, verbose_name='user')),
                ('label', models.CharField(help_text='The purpose of the token.', max_length=100, verbose_name='label')),
                ('digest', models.CharField(editable=False, max_length=64, unique=True, verbose_name='SHA-256')),
                ('start', models.CharField(editable=False, help_text='To identify the token.', max_length=4, verbose_name='first characters')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created at')),
            ],
            options={
                'verbose_name': 'API token',
                'verbose_name_plural': 'API tokens',
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='WrongToken',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('address', models.CharField(max_length=45, verbose_name='address')),
                ('at', models.DateTimeField(auto_now_add=True, verbose_name='at')),
            ],
            options={
                'verbose_name': 'wrong token',
                'verbose_name_plural': 'wrong tokens',
                'indexes': [
                    models.Index(fields=['address', 'at'], name='wrong_tokens_of_address'),
                ],
            },
        ),
    ]
