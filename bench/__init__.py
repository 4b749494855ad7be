"""Measurements of the engine beside its peers (`python -m bench`), and its endurance under kills and faults (`bench.soak`).

Nothing here is imported by the package; `bench.chaos` is shared with the tests.
"""
