"""The course of a run: which clients there are, when it stops, its state on disk, going on from it.

To add a rule of when to stop or how fast to learn: :mod:`fl_sim.rounds.early_stopping`.
"""
