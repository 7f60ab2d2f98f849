"""A tiny Django project, once for each side: the same order, payload, handler and database.

`base` has the settings that all share. A side's package adds its own: `settings`, `celery` and
`telling.tell`, which is called beside the order's INSERT. Peers run with a Python of their own, so
nothing here that they import may need the outbox or the shop.
"""
