"""Training and evaluating a model on one client's images, as the recipe says.

To add a loss or an optimiser: a line in ``LOSSES`` or ``OPTIMIZERS`` of ``local_training``, and its
counterpart in :mod:`adversary.problem`.
"""
