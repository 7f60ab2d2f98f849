"""The safety parts taken away, one at a time: `make mutants` shows that tests notice each.

A mutant replaces text in a copy of the tree. So what runs is what its row says, in the processes
that a test starts, too, and a row whose text has moved fails loudly instead of changing nothing
(tests/mutants/test_mutants.py looks, in `make test`). A patch at import would reach neither.
"""
