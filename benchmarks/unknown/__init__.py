"""The parts of ``benchmarks/enroll.py``: students of some people, what they make of others, and the tables of it."""
