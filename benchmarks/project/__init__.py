"""A tiny Django project, once for each side: the same order, payload, handler and database.

`base` has the settings that all share. A side's package adds its own: `settings`, `celery` and
`publishing.publish`, which is called in the transaction of the order's INSERT. Peers run with their
own Python, so the modules that they import must not import the outbox or the shop.
"""
