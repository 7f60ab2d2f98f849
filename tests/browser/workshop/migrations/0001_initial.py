from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from django.db import migrations, models

LONG = "counter_clockwise_regulator_of_the_third"  # 40 letters
JAPANESE = "文字盤のひび割れと、毎日およそ三十秒の進み。分解掃除のうえ部品を交換します。"
AT = datetime(2026, 11, 24, 23, 40, tzinfo=UTC)


def store(apps: Any, _editor: Any) -> None:
    rows = apps.get_model("workshop", "Repair").objects
    for number in range(1, 4):
        rows.create(
            reference=f"{LONG}-{number}",
            item=JAPANESE[:20] if number == 2 else LONG,
            customer="エドガー・アラン・ポー" if number == 2 else "Edgar Allan Poe",
            fault=JAPANESE if number == 2 else f"{LONG} {LONG}",
            remedy=JAPANESE if number == 2 else "Cleaned, oiled, and adjusted in six positions.",
            address="東京都千代田区丸の内一丁目九番二号" if number == 2 else f"{LONG} 4711",
            carrier="Kuroneko",
            received_at=AT,
            promised_at=AT,
        )


class Migration(migrations.Migration):
    initial = True
    dependencies: ClassVar = []
    operations: ClassVar = [
        migrations.CreateModel(
            name="Repair",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False)),
                ("reference", models.CharField(max_length=80)),
                ("item", models.CharField(max_length=200)),
                ("customer", models.CharField(max_length=200)),
                ("fault", models.TextField()),
                ("remedy", models.TextField()),
                ("address", models.CharField(max_length=200)),
                ("carrier", models.CharField(max_length=80)),
                ("received_at", models.DateTimeField()),
                ("promised_at", models.DateTimeField()),
            ],
            options={"ordering": ["id"]},
        ),
        migrations.RunPython(store, migrations.RunPython.noop),
    ]
