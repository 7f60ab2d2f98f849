"""Change code that sends Celery tasks with a transaction, so that the outbox stores them.

This package reads and writes source text by LibCST, which keeps formatting and comments. It does
not import the modules that it reads. Only this package imports LibCST (extra "adopt").
"""
