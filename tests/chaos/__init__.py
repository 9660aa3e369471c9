"""Faults at seeded random moments of a small experiment: does it end with what an undisturbed one ends with?

    python -m tests.chaos --kills 50 --seed 0

A *fault* (faults.py) kills a process or takes room away. Each is struck in an experiment of its own (world.py), in a
stage and at a moment that the seed chooses; where the command then ends, the same command is typed again. What is left
(record.py) is compared with an undisturbed run, bit for bit.
"""
