"""`manage.py demo`: 24 orders through the whole stack in a temporary folder, with their timelines.

`program` starts it with its own settings. `scenarios` lists the orders, and `customers` place them
over HTTP. `run` runs the scenarios and waits until nothing is owed. `faults` break parts of the
stack meanwhile. `conditions` reads the database. `timeline` formats the timelines, and `result` the
last lines. With `--watch`, `live` keeps the lines of `board` at the bottom of the terminal.
"""
