"""Change code that sends Celery tasks with a transaction, so that the outbox stores them.

It reads and writes source text by LibCST, which keeps formatting and comments. It imports none of
the modules that it reads. Only this room imports LibCST (extra "adopt").
"""
