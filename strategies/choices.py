"""Flower strategies that a run config can name; in code any Strategy can be wrapped."""

STRATEGY_NAMES = ("fedavg", "fedprox", "fedavgm", "fedadam", "fedmedian")
