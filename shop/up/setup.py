"""`python -m shop.up.setup`: prepare the database, in a process with the right settings.

It applies migrations and adds demo data. With `--sync`, after a code change, it checks the project
and syncs the subscriptions of its handlers, unless a table is missing. The developer applies
migrations. After a failure the last line of its output names the cause for the user.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import django
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError, SystemCheckError
from django.db import DatabaseError, connection, router
from django.db.migrations.executor import MigrationExecutor

CHECKED_SIZE = 64 * 1024 * 1024  # bytes; a bigger file takes too long to read at each start


def main() -> int:
    # It ends soon. To search all loaded modules for garbage, also at its end, took a third of its
    # time, and each reload waits for it.
    gc.disable()
    try:
        return _run()
    finally:
        gc.freeze()


def _run() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    django.setup()
    try:
        _sync() if "--sync" in sys.argv else _prepare()
    except SystemCheckError as error:
        return _fail(f"{error}\nThe system checks failed. See above.")
    except CommandError as error:
        return _fail(str(error))
    except DatabaseError as error:
        return _fail(_database_message(error))
    return 0


def _prepare() -> None:
    from shop.up.credentials import Credentials  # these need django.setup()
    from shop.up.demo import add_demo_data

    _require_intact_file()
    call_command("check")
    missing = _missing_migrations()
    if missing:
        _print(f"Applying {missing} migrations ...")
    call_command("migrate", verbosity=0, interactive=False)
    add_demo_data(Credentials(_local_dir()))


def _sync() -> None:
    from outbox.deliveries.sync import sync_subscriptions  # it needs django.setup()

    call_command("check")
    if missing := _missing_migrations():
        _print(
            f"{missing} migrations are not applied. Run `manage.py migrate`. It also stores the "
            "subscriptions, which must not exist before the tables of their handlers."
        )
    elif tables := _missing_tables():
        _print(
            f"The database has no table {', '.join(tables)}. Run `manage.py makemigrations` with "
            "the app's label, then `manage.py migrate`. It also stores the subscriptions."
        )
    else:
        # What `migrate` does if it has nothing to apply, without building the models of all apps.
        sync_subscriptions()


def _missing_tables() -> list[str]:
    """Return tables of models that no migration creates yet."""
    known = set(connection.introspection.table_names())
    models = [
        model
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed and router.allow_migrate_model(connection.alias, model)
    ]
    return sorted({model._meta.db_table for model in models} - known)


def _require_intact_file() -> None:
    """Raise DatabaseError for an SQLite file that opens but is damaged."""
    if connection.vendor != "sqlite" or _size() > CHECKED_SIZE:
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA quick_check(1)")
        answer = cursor.fetchone()[0]
    if answer != "ok":
        raise DatabaseError(answer)


def _size() -> int:
    try:
        return os.path.getsize(connection.settings_dict["NAME"])
    except OSError:
        return 0


def _missing_migrations() -> int:
    executor = MigrationExecutor(connection)
    return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def _database_message(error: DatabaseError) -> str:
    reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else "no answer"
    where = connection.settings_dict
    if connection.vendor == "sqlite":
        return (
            f"The database file {where['NAME']} cannot be used ({reason}). Restore it, or move it "
            "away to start with an empty database."
        )
    address = f"{where['HOST']}:{where['PORT']}"
    return f"The database at {address} cannot be used ({reason}). Check DATABASE_URL."


def _local_dir() -> Path:
    return Path(settings.LOCAL_DIR)


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _fail(text: str) -> int:
    _print(text)
    return 1


if __name__ == "__main__":
    sys.exit(main())
