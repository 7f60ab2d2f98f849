"""Profiles: which code uses the processor. `python -m benchmarks.profiling` is the command.

`sampling` records stacks with py-spy. `scenes` runs what is recorded. `flames` draws the stacks.
"""
