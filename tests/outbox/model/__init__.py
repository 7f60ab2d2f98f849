"""The engine against a model of it: the real relay, delivery and actions, in every order of events.

`world` is what stands around the engine: a clock, a broker that loses and repeats, relays and
workers that die; `handlers` do as they are told. `reference` says in a few lines what must come of
it. `machine` lets Hypothesis choose what happens next, and compares after each step.
"""
