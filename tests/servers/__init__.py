"""Real servers of other systems, for tests of sinks and sources.

Each listens on 127.0.0.1 only, on a port of its own, and stores its data in a given folder. It ends
with the process that started it, also if that is killed. `fixtures.py` has one of each for a
session. A server that is not installed raises `ServerMissing`.
"""
