"""Wrappers of Flower's grid: what lies between the strategy and the clients.

``base`` passes everything on; ``ordered`` makes results repeatable, ``polling`` lets attacks be
collected while clients train, ``secure_aggregation`` hides single updates. To add one: a class of
:class:`~strategies.grids.base.GridWrapper`.
"""
