"""Attacks beside the training: Ray's queue, one task of it, and jobs in parallel.

To add a queue: a class of :class:`strategies.attack_queue.AttackQueue`.
"""
