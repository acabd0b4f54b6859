import numpy as np
import pytest
import torch

from adversary.report.ruler import DECIBELS, at, psnr, ruler
from adversary.scoring import metrics


@pytest.mark.parametrize("decibels", DECIBELS)
def test_a_mark_has_the_psnr_that_stands_below_it(decibels):
    truth = np.random.default_rng(1).random((24, 24))
    image = at(truth, decibels)
    assert (image.min() >= 0, image.max() <= 1) == (True, True)
    assert -10 * np.log10(np.mean((image - truth) ** 2)) == pytest.approx(decibels, abs=1e-6)
    tensors = [torch.from_numpy(one)[None, None] for one in (image, truth)]
    assert psnr(image, truth) == pytest.approx(float(metrics.psnr(*tensors)))


def test_the_ruler_is_the_same_every_time_and_names_its_source():
    first = ruler()
    ruler.cache_clear()
    assert ruler() == first
    assert list(first.marks) == list(DECIBELS)
    assert "CC BY 4.0" in first.attribution
    assert 15 < first.mean_psnr < 22
