"""`manage.py demo`: 24 orders through the whole stack, in a temporary folder, told as a story.

`program` starts it with its own settings. `scenarios` lists the orders, and `customers` place them
over HTTP. `play` runs the scenarios and waits until nothing is owed. `faults` break parts of the
stack meanwhile. `watch` reads the database, `story` prints the timelines, `verdict` the result.
"""
