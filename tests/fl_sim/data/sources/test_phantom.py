import time

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from fl_sim.data import load
from fl_sim.data.sources.phantom import TRAITS, draw


def test_phantoms_say_that_they_are_synthetic():
    data = load("phantom", num_images=20, image_size=8).private
    assert data.synthetic
    assert "synthetic" in data.name
    assert "synthetic" in data.attribution


def test_the_number_is_as_asked_and_512_by_default():
    for asked, count in ((0, 512), (37, 37)):
        splits = load("phantom", num_images=asked, image_size=8)
        assert len(splits.private) + len(splits.public) + len(splits.test) == count
        assert len(splits.public) == 4


def test_both_labels_occur_alike():
    share = load("phantom", image_size=8).private.labels.float().mean()
    assert 0.4 < share < 0.6


def test_a_phantom_does_not_change_with_how_many_there_are():
    few, many = (load("phantom", num_images=n, image_size=16).private for n in (20, 60))
    for name in set(few.names) & set(many.names):
        a, b = few.images[few.names.index(name)], many.images[many.names.index(name)]
        assert (a.int() - b.int()).abs().max() <= 1


def test_lungs_are_dark_in_a_bright_body_and_patients_differ():
    images = load("phantom", num_images=60, image_size=64).private.tensor(range(40))[:, 0]
    lungs = (images[:, 26:32, 14:20].mean((1, 2)) + images[:, 26:32, 44:50].mean((1, 2))) / 2
    spine = images[:, 24:32, 30:34].mean((1, 2))
    corners = images[:, :4, :4].mean((1, 2))
    assert (spine - lungs > 0.1).all()
    assert (spine - corners > 0.2).all()
    assert images.std(0).mean() > 0.03


def test_the_label_brightens_one_place_in_the_lungs_and_nothing_else():
    traits = torch.rand(20, TRAITS, generator=torch.Generator().manual_seed(0))
    difference = draw(traits, torch.ones(20), 64) - draw(traits, torch.zeros(20), 64)
    assert (difference >= -1e-6).all()
    assert (difference.amax((1, 2)) > 0.03).float().mean() > 0.9
    assert (difference > 0.02).float().mean((1, 2)).max() < 0.15


def test_opacities_can_be_learnt_but_are_not_trivial():
    splits = load("phantom", num_images=1500, image_size=32, seed=1)
    train, test = splits.private, splits.test
    model = LogisticRegression(C=0.01, max_iter=300).fit(
        train.tensor(range(len(train))).flatten(1), train.labels
    )
    scores = model.decision_function(test.tensor(range(len(test))).flatten(1))
    assert 0.6 < roc_auc_score(test.labels, scores) < 0.99
    brightness = test.tensor(range(len(test))).mean((1, 2, 3))
    assert roc_auc_score(test.labels, brightness) < 0.65


def test_a_thousand_take_seconds():
    start = time.perf_counter()
    load("phantom", num_images=1000, image_size=64, seed=99)
    assert time.perf_counter() - start < 30
