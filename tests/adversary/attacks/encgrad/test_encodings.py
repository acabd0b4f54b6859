from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional

from adversary.attacks.encgrad.encodings import (
    consistent_encodings,
    gra,
    least_squares,
    oha,
    refine_encodings,
)
from adversary.problem.head import Head


def last_layer(
    labels, outputs, width, *, seed=0, spread=1.0, loss="cross-entropy", dtype=torch.float64,
    class_weights=None,
):  # fmt: skip
    """Return H and the observed (G_W, G_b, W, b, Y) of a last layer, by autograd."""
    draw = torch.Generator().manual_seed(seed)
    H = 0.5 + spread * (torch.rand(len(labels), width, generator=draw).double() - 0.5)
    W = (0.2 * torch.randn(outputs, width, generator=draw).double()).requires_grad_()
    b = (0.1 * torch.randn(outputs, generator=draw).double()).requires_grad_()
    labels = torch.as_tensor(labels)
    Y = labels.double() if labels.ndim == 2 else functional.one_hot(labels, outputs).double()
    logits = H @ W.T + b
    if loss == "cross-entropy":
        value = functional.cross_entropy(logits, Y, weight=class_weights)
    else:
        value = functional.binary_cross_entropy_with_logits(logits, Y, pos_weight=class_weights)
    G_W, G_b = (g.to(dtype) for g in torch.autograd.grad(value, (W, b)))
    return H, (G_W, G_b, W.detach(), b.detach(), Y)


def rounding(G_W):
    return float(torch.finfo(G_W.dtype).eps * G_W.abs().max())


def head_of(system, loss="cross-entropy", class_weights=None):
    """Return a head, and the targets, of (G_W, G_b, W, b, targets)."""
    G_W, G_b, W, b, targets = system
    head = Head(
        loss=loss, class_weights=class_weights, weight=W, bias=b, weight_gradient=G_W,
        bias_gradient=G_b,
    )  # fmt: skip
    return head, targets


def error(found, truth, labels=None):
    """Mean squared error, at the best order of images of equal label."""
    if labels is None:
        return float((found - truth).square().mean())
    orders = itertools.permutations(range(len(truth)))
    same = (o for o in orders if all(labels[i] == labels[j] for i, j in enumerate(o)))
    return min(float((found[list(o)] - truth).square().mean()) for o in same)


@pytest.mark.parametrize("seed", range(3))
def test_oha_is_exact_for_one_image(seed):
    H, (G_W, G_b, *_) = last_layer([3], 10, 24, seed=seed)
    assert error(oha(G_W, G_b, torch.tensor([3])), H) < 1e-24


def test_gra_is_exact_where_its_assumption_holds():
    """With W = 0 and b = 0 every output is 1/C, as GRA takes it to be."""
    draw = torch.Generator().manual_seed(0)
    B, C, labels = 4, 10, torch.tensor([7, 2, 5, 0])
    H = torch.rand(B, 24, generator=draw).double()
    A = torch.full((C, B), 1 / C, dtype=torch.float64) - functional.one_hot(labels, C).double().T
    found = gra(A @ H / B, A.sum(1) / B, labels)
    assert error(found, H) < 1e-24


def test_gra_gives_images_of_one_label_their_mean():
    draw = torch.Generator().manual_seed(0)
    B, C, labels = 4, 10, torch.tensor([7, 2, 7, 0])
    H = torch.rand(B, 24, generator=draw).double()
    A = torch.full((C, B), 1 / C, dtype=torch.float64) - functional.one_hot(labels, C).double().T
    found = gra(A @ H / B, A.sum(1) / B, labels)
    mean = H[[0, 2]].mean(0)
    torch.testing.assert_close(found, torch.stack([mean, H[1], mean, H[3]]))


@pytest.mark.parametrize("spread", [0.01, 1.0])
@pytest.mark.parametrize(("batch", "outputs"), [(1, 10), (4, 10), (10, 10), (16, 100)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_consistent_encodings_of_distinct_labels_are_exact_to_rounding(
    batch, outputs, spread, dtype
):
    H, system = last_layer(range(batch), outputs, 32, spread=spread, dtype=dtype, seed=batch)
    found = consistent_encodings(*head_of(system), noise=rounding(system[0]))
    assert found.rank == batch if batch < outputs else found.rank >= batch - 1
    if batch < outputs:  # the C rows of a softmax's gradient add up to zero
        limit = 1e-9 if dtype == torch.float32 else 1e-22
        assert error(found.values, H) < limit
        assert (
            error(found.values, H) < error(gra(system[0], system[1], torch.arange(batch)), H)
            or batch == 1
        )
        assert found.residual < 1e-5


@pytest.mark.parametrize("seed", range(3))
def test_multi_label_heads_are_solved_with_sigmoid_outputs(seed):
    Y = torch.tensor([[1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1]])
    H, system = last_layer(Y, 6, 20, seed=seed, loss="bce")
    found = consistent_encodings(*head_of(system, "bce"), noise=rounding(system[0]))
    assert found.rank == 3
    assert error(found.values, H) < 1e-20


@pytest.mark.parametrize("loss", ["cross-entropy", "bce"])
@pytest.mark.parametrize("seed", range(3))
def test_class_weights_change_the_system_and_not_its_solution(seed, loss):
    Y = torch.tensor([[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0]])
    weights = torch.tensor([0.3, 4.0, 1.0, 1.0, 2.0, 9.0]).double()
    H, system = last_layer(Y, 6, 20, seed=seed, loss=loss, class_weights=weights)
    noise = rounding(system[0])
    found = consistent_encodings(*head_of(system, loss, weights), noise=noise)
    assert found.rank == 3
    assert error(found.values, H) < 1e-18
    blind = consistent_encodings(*head_of(system, loss), noise=noise)
    assert error(blind.values, H) > 1e-6


@pytest.mark.parametrize("loss", ["cross-entropy", "bce"])
def test_what_the_noise_of_the_gradient_drowns_is_left_out(loss):
    """An error e of the mean over B images (and C outputs) moves A H by B (C) times as much."""
    Y = torch.eye(6)[:3]
    H, system = last_layer(Y, 6, 20, seed=1, loss=loss)
    logits = H @ system[2].T + system[3]
    outputs = logits.softmax(1) if loss == "cross-entropy" else logits.sigmoid()
    least = float(torch.linalg.svdvals((outputs - Y).T)[-1])
    terms = 3 if loss == "cross-entropy" else 3 * 6
    assert consistent_encodings(*head_of(system, loss), noise=0.9 * least / terms).rank == 3
    assert consistent_encodings(*head_of(system, loss), noise=2.0 * least / terms).rank < 3


def test_a_binary_head_determines_one_mixture():
    H, system = last_layer([0, 1], 2, 20)
    found = consistent_encodings(*head_of(system), noise=rounding(system[0]))
    assert found.rank == 1
    # What there is: the mixture explains the gradient although the parts are unknown.
    assert found.residual < 1e-6
    assert error(found.values, H) > 1e-3


@pytest.mark.parametrize("labels", [[0, 0, 1, 2], [0, 0, 1, 1, 2], [4, 4, 4, 1]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_refinement_tells_images_of_one_label_apart(labels, dtype):
    H, system = last_layer(labels, 40, 24, dtype=dtype, seed=2)
    noise = rounding(system[0])
    start = consistent_encodings(*head_of(system), noise=noise)
    assert start.rank == len(set(labels))
    found = refine_encodings(*head_of(system), start, noise=noise)
    assert found.rank == len(labels)
    baseline = error(gra(system[0], system[1], torch.tensor(labels)), H, labels)
    assert error(found.values, H, labels) < 1e-6 * baseline


def test_refinement_tries_again_where_one_start_does_not_reach_the_noise():
    _, system = last_layer([0, 0, 1, 2], 40, 24)
    noise = rounding(system[0])
    start = consistent_encodings(*head_of(system), noise=noise)
    one, three = (
        refine_encodings(*head_of(system), start, noise=noise, steps=5, tries=tries).residual
        for tries in (1, 3)
    )
    assert three < 0.1 * one


def test_refinement_does_not_read_what_is_drowned_in_noise():
    _, (G_W, *rest) = last_layer([0, 0, 1, 2], 40, 24, seed=2)
    noise = 1e-6
    G_W = G_W + noise * torch.randn(G_W.shape, generator=torch.Generator().manual_seed(0)).double()
    start = consistent_encodings(*head_of((G_W, *rest)), noise=noise)
    found = refine_encodings(*head_of((G_W, *rest)), start, noise=noise)
    told = torch.linalg.svd(G_W, full_matrices=False).Vh[:4]  # of four images; the rest is noise
    assert found is not start
    torch.testing.assert_close(found.values @ told.T @ told, found.values, rtol=0, atol=1e-9)


def test_no_more_is_determined_than_there_are_images():
    _, system = last_layer([0, 0, 1, 2], 40, 24, seed=2)
    start = consistent_encodings(*head_of(system), noise=1e-20)
    assert refine_encodings(*head_of(system), start, noise=1e-20).rank == 4


def test_refinement_keeps_what_it_cannot_better():
    """Where encodings of one label hardly differ, rounding hides by how much."""
    _, system = last_layer([0, 0, 1, 2], 40, 24, dtype=torch.float32, spread=1e-5)
    noise = rounding(system[0])
    start = consistent_encodings(*head_of(system), noise=noise)
    assert refine_encodings(*head_of(system), start, noise=noise) is start


@pytest.mark.parametrize(("rows", "columns"), [(6, 4), (4, 6), (5, 5)])
def test_least_squares_is_numpy_s(rows, columns):
    import numpy as np

    draw = torch.Generator().manual_seed(rows)
    A = torch.randn(rows, columns, generator=draw).double()
    rhs = torch.randn(rows, 3, generator=draw).double()
    expected = np.linalg.pinv(A.numpy()) @ rhs.numpy()
    torch.testing.assert_close(least_squares(A, rhs), torch.from_numpy(expected))
