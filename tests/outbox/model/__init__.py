"""A model test of the engine: the real relay, delivery and operations, in many orders of events.

`world` is the environment of the engine: a clock, a broker that loses and repeats messages, relays
and workers that die. `actions` has the events and the faults, and `handlers` have these faults.
`reference` is the expected result in a few lines. In `machine` Hypothesis chooses each next step
and compares the engine with the reference after it.
"""
