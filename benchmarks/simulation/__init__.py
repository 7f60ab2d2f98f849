"""A discrete-event model of the outbox on one or many machines.

`costs` has the processor time of each step, from measurements. `workload` describes events and
handlers. `system` is the model itself. `fleet` chooses machines for a rate of orders, and
`validation` compares the model with a real run. `benchmarks.simulate` is the command.
"""
