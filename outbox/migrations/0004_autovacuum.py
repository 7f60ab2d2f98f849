"""Let autovacuum follow the traffic of the outbox's tables instead of their history (PostgreSQL).

By default a table is vacuumed when a fifth of it is dead. A delivery is updated three times before it
is settled, and each leaves a dead row version with entries in the indexes of what is due. With a
hundred million settled rows, twenty million of those would pile up first, and each pass of the relay
would read through them: its indexes are small only while they are vacuumed.

No fillfactor: every update of a delivery changes a column that an index or its condition has (state,
due_at), and so does that of an event (fanned_out_at), so none of them could stay on its page ("HOT").
(0014 sets one for deliveries, so that new rows lie together.)
"""

from django.db import migrations

SETTINGS = {
    'outbox_delivery': {
        # A hundredth instead of a fifth of the table, and at once in a small one.
        'autovacuum_vacuum_scale_factor': '0.01',
        'autovacuum_vacuum_threshold': '1000',
        # The planner must know what share is owed; that changes within minutes.
        'autovacuum_analyze_scale_factor': '0.02',
        # The work waits less between its steps: 2 ms is the default of all tables together.
        'autovacuum_vacuum_cost_delay': '1',
    },
    'outbox_event': {
        'autovacuum_vacuum_scale_factor': '0.02',
        'autovacuum_vacuum_threshold': '1000',
        # Mostly inserts: visited early, so that old pages are frozen in small portions.
        'autovacuum_vacuum_insert_scale_factor': '0.05',
        'autovacuum_analyze_scale_factor': '0.05',
    },
}


def tune(apps, schema_editor):
    for table, settings in SETTINGS.items():
        _alter(schema_editor, table, 'SET', ', '.join(f'{name} = {value}' for name, value in settings.items()))


def reset(apps, schema_editor):
    for table, settings in SETTINGS.items():
        _alter(schema_editor, table, 'RESET', ', '.join(settings))


def _alter(schema_editor, table, verb, settings):
    if schema_editor.connection.vendor == 'postgresql':
        schema_editor.execute(f'ALTER TABLE {table} {verb} ({settings})')


class Migration(migrations.Migration):

    dependencies = [
        ('outbox', '0003_horizon'),
    ]

    operations = [
        migrations.RunPython(tune, reset, elidable=False),
    ]
