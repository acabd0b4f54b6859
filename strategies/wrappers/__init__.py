"""Wrappers of strategies, one duty each.

From the outside in::

    Flower <-
    RoundOffset(HonestButCurious(LearningRateSchedule(ReplyValidation(CentralDP(FedAvg)))))

``run_log`` is the base of ``HonestButCurious`` and writes a run down without any attack. To add
one: a class of :class:`~strategies.wrappers.base.StrategyWrapper`.
"""
