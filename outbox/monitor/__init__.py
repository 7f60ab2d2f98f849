"""What people ask of the outbox, answered from its rows: what is owed, why, what followed.

Reads only. The admin, the command and the metrics show what is found here.
"""
