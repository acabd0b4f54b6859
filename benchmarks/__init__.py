"""Measurements: ``python -m benchmarks --help`` lists them; run from the repository root.

A module with a ``main`` is one; its first line says what it measures. Rows that are published lie
in ``benchmarks/results``, and ``python -m benchmarks pages`` writes the pages made of them.
"""
