"""`manage.py demo --world`: orders flow to Kafka, and a carrier's answers come back as events.

`carrier` is the other system: one script without Django and without code of this project.
`kafka` starts the server. This package is also an app, with the shop's side: `events` declares the
answer, and `handlers` ships the order. `settings` installs the app. `run` places the orders, kills
the carrier once, and checks the result.
"""
