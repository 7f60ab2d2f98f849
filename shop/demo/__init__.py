"""`manage.py demo`: 24 orders through the whole stack, in a temporary folder, told as a story.

`program` starts it with settings of its own, `wishes` says what is ordered, `customers` place the
orders over HTTP, `play` has them do so and waits until nothing is owed, `strikes` break things in
the middle, `watch` looks at the database, `story` tells what followed, `verdict` sums up.
"""
