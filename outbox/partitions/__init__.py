"""Partitions of events and deliveries by day, on PostgreSQL, with `OUTBOX["PARTITION"]`."""
