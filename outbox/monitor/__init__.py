"""Read-only queries on the outbox's rows: outstanding deliveries, their reasons, their effects.

The admin, the command and the metrics show the results.
"""
