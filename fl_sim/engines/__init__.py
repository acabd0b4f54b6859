"""What runs a federation: Flower's own processes, or this one.

Imports any other room but ``cli``. To add one: a function of settings, and a line in ``ENGINES`` of
:mod:`fl_sim.cli.running`.
"""
