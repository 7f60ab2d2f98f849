"""Chaos at the edges: sinks and sources with real servers, whose answers a proxy distorts.

`make chaos ARGS="--edges --seconds 300 --seed 7"`. `run.py` has the run, `world.py` its processes
and servers, `faults.py` what a nemesis does to them, `checker.py` the rules.
"""
