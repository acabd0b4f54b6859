from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve

from adversary.report.naming_charts import Curve, NamedPoint, naming_frontier, rates, roc_chart


def curve(**changes):
    draw = torch.Generator().manual_seed(0)
    members, others = torch.randn(40, generator=draw) + 1, torch.randn(200, generator=draw)
    return Curve(name="a <b> $c$", members=members, others=others, **changes)


def test_rates_are_those_of_sklearn():
    one = curve()
    truth, scores = np.repeat([1, 0], [40, 200]), torch.cat([one.members, one.others]).numpy()
    false, true = rates(one)
    assert np.trapezoid(true, false) == pytest.approx(roc_auc_score(truth, scores), abs=0.01)
    theirs = roc_curve(truth, scores, drop_intermediate=False)
    for f, t in zip(false, true, strict=True):
        assert t <= theirs[1][theirs[0] <= f + 1e-12].max() + 1e-12


def test_charts_are_svg_with_names_escaped_and_empty_of_nothing():
    plain, bounded = roc_chart([curve()]), roc_chart([curve(account=(1.0, 1e-5))])
    assert plain.startswith("<svg")
    assert "&lt;b&gt;" in plain
    assert len(bounded) > len(plain)
    assert roc_chart([]) == ""
    points = [
        NamedPoint(name="a", auc=0.8, named=0.5, kind="partly"),
        NamedPoint(name="b", auc=None, named=1, kind="partly"),
    ]
    assert naming_frontier(points).startswith("<svg")
    assert naming_frontier(points[1:]) == ""
