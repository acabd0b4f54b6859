"""Flower's SecAgg+ behind strategies of the Message API: the same mean, and nothing else."""

import random

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.common import bytes_to_ndarray
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.serverapp.strategy import FedAvg, FedAvgM
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from strategies import NoUsableReplyError, ReplyValidation, RunLog
from strategies.grids.base import GridWrapper
from strategies.grids.secure_aggregation import (
    SecureAggregationGrid,
    _flat,
    _split,
    masked_arrays,
    secure_aggregation_mod,
)

LEVELS = 2**26
STEP = 2 * 8.0 / LEVELS


def through(grid, *, threshold=0.67, tap=None, max_weight=5, **options):
    workflow = SecAggPlusWorkflow(
        1.0, threshold, max_weight=max_weight, quantization_range=LEVELS, **options
    )
    return SecureAggregationGrid(tap(grid) if tap else grid, workflow)


@pytest.fixture
def secure(foreign):
    """Return an app whose clients take part in SecAgg+."""

    def app(clients=3, **more):
        return foreign.App(clients=clients, mods=(secure_aggregation_mod,), **more)

    return app


class Tap(GridWrapper):
    """Keeps what goes out and comes back."""

    def __init__(self, grid):
        super().__init__(grid)
        self.replies = []

    def send_and_receive(self, messages, *, timeout=None):
        replies = list(super().send_and_receive(messages, timeout=timeout))
        self.replies += replies
        return replies


def fails(content):
    raise RuntimeError("out of film")


def averaged(arrays):
    """What went through SecAgg+: all but the count of batches."""
    state = arrays.to_torch_state_dict()
    return {n: v.double() for n, v in state.items() if not n.endswith("num_batches_tracked")}


@pytest.mark.parametrize("strategy", [FedAvg, FedAvgM])
@pytest.mark.parametrize("clients", [2, 3, 5])
def test_the_model_is_that_of_plain_training_up_to_rounding(strategy, clients, foreign, secure):
    plain, masked = foreign.App(clients=clients), secure(clients)
    expected = plain.run(strategy())
    found = masked.run(strategy(), through=lambda g: through(g, max_weight=clients + 1))
    for turn, loaded in plain.loaded.items():
        for name, value in loaded.items():
            assert torch.allclose(masked.loaded[turn][name], value, rtol=0, atol=10 * STEP)
    assert list(found.arrays) == list(expected.arrays)
    for name, array in expected.arrays.items():
        assert found.arrays[name].dtype == array.dtype
        assert found.arrays[name].shape == array.shape
        np.testing.assert_allclose(found.arrays[name].numpy(), array.numpy(), atol=10 * STEP)
    for number, metrics in expected.train_metrics_clientapp.items():
        assert dict(found.train_metrics_clientapp[number]) == pytest.approx(dict(metrics), abs=1e-5)
    assert found.evaluate_metrics_clientapp.keys() == expected.evaluate_metrics_clientapp.keys()


def test_what_is_no_floating_point_number_is_averaged_as_plain_training_averages_it(
    foreign, secure
):
    def masked_net(app):
        def net():
            made = type(app).net(app)
            made.register_buffer("mask", torch.tensor([True, False, True]))
            return made

        return net

    def empty(content):
        content["arrays"]["mask"] = Array(np.zeros(3, bool))
        return content

    plain, hidden = foreign.App(spoil={1: empty}), secure(spoil={1: empty})
    plain.net, hidden.net = masked_net(plain), masked_net(hidden)
    expected = plain.run(FedAvg(), rounds=1).arrays["mask"]
    found = hidden.run(FedAvg(), rounds=1, through=through).arrays["mask"]
    assert 0 < expected.numpy().max() < 1
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-12)


def test_the_mean_is_weighted_by_examples(secure):
    app = secure()
    result = app.run(FedAvg(), rounds=1, through=through)
    weights = torch.tensor([2.0, 3.0, 4.0])  # images of each client
    for name, value in averaged(result.arrays).items():
        stacked = torch.stack([app.replied[1, c][name].double() for c in range(3)])
        mean = torch.einsum("c,c...->...", weights.double() / 9, stacked)
        assert torch.allclose(value, mean, rtol=0, atol=4 * STEP)
        if name == "fc.weight":
            assert not torch.allclose(value, stacked.mean(0), rtol=0, atol=4 * STEP)


def test_nothing_of_one_client_comes_back_but_a_uniform_vector(secure):
    taps = []

    def tap(grid):
        taps.append(Tap(grid))
        return taps[-1]

    app = secure()
    app.run(FedAvg(), rounds=1, through=lambda g: through(g, tap=tap))
    vectors = []
    for reply in taps[0].replies:
        if reply.metadata.message_type != MessageType.TRAIN:
            continue
        arrays = [array for r in reply.content.array_records.values() for array in r.values()]
        assert all(array.numpy().dtype.kind == "i" for array in arrays)
        if masked := reply.content["secaggplus_configs"].get("masked_params"):
            vectors.append(bytes_to_ndarray(masked[1]) / 2**32)
    assert len(vectors) == 3
    for client, vector in enumerate(vectors):
        assert stats.kstest(vector, "uniform").pvalue > 1e-6
        own = np.concatenate(
            [
                value.double().ravel().numpy()
                for _, value in sorted(app.replied[1, client].items())
                if value.is_floating_point()
            ]
        )
        assert abs(stats.spearmanr(vector, own).statistic) < 0.5
    assert stats.kstest(np.concatenate(vectors), "uniform").pvalue > 1e-6


def test_a_masked_vector_is_read_on_the_scale_of_the_clipping_range(secure, foreign):
    contents = []

    class Keeps(FedAvg):
        def aggregate_train(self, server_round, replies):
            contents.extend(reply.content for reply in replies)
            return super().aggregate_train(server_round, replies)

    secure().run(Keeps(), rounds=1, through=through)
    model = foreign.Net().state_dict()
    assert len(contents) == 3
    for content in contents:
        masked, examples = masked_arrays(content), content["metrics"]["num-examples"]
        assert masked.keys() == {n for n, v in model.items() if v.is_floating_point()}
        assert all(a.shape == model[n].shape for n, a in masked.items())
        values = np.concatenate([a.ravel() for a in masked.values()]) / 5 * examples
        assert np.abs(values).max() <= 8
        assert stats.kstest((values + 8) / 16, "uniform").pvalue > 1e-6


def test_a_client_that_fails_in_training_is_left_out(secure, foreign):
    app, ledger = secure(4, spoil={1: fails}), foreign.Ledger()
    strategy = RunLog(ReplyValidation(FedAvg()), ledger=ledger)
    result = app.run(strategy, rounds=2, through=through)
    [(_, first), (_, second)] = ledger.named("round_done")
    assert (first["clients"], first["clients_failed"]) == (4, 1)
    assert (second["clients"], second["clients_failed"]) == (4, 1)
    assert ("client-01", "out of film") in {
        (client, reason.rpartition(": ")[2]) for _, client, reason in ledger.named("unusable")
    }
    for name, value in averaged(result.arrays).items():
        stacked = torch.stack([app.replied[2, c][name].double() for c in (0, 2, 3)])
        mean = torch.einsum("c,c...->...", torch.tensor([2, 4, 5]).double() / 11, stacked)
        assert torch.allclose(value, mean, rtol=0, atol=4 * STEP)


def test_two_that_fail_are_too_many_for_the_threshold(secure, foreign):
    app, ledger = secure(4, spoil={1: fails, 2: fails}), foreign.Ledger()
    with pytest.raises(NoUsableReplyError) as error:
        app.run(RunLog(ReplyValidation(FedAvg()), ledger=ledger), through=through)
    told = str(error.value)
    assert "round 1: none of 4 clients" in told
    assert "client-01, client-02 failed: RuntimeError: out of film" in told
    assert (
        "client-00, client-03 failed: secure aggregation stopped: 2 of 4 clients answered in the "
        "stage collect_masked_vectors" in told
    )
    assert app.run(ReplyValidation(FedAvg()), rounds=1, through=lambda g: through(g, threshold=0.5))


def test_a_client_lost_before_training_ends_the_round_before_training(secure):
    class Loses(GridWrapper):
        def send_and_receive(self, messages, *, timeout=None):
            replies = list(super().send_and_receive(messages, timeout=timeout))
            stages = [m.content.get("secaggplus_configs", {}).get("pk1") for m in replies]
            return replies[1:] if any(stages) else replies

    app = secure(4)
    with pytest.raises(NoUsableReplyError, match="3 of 4 clients answered in the stage setup"):
        app.run(ReplyValidation(FedAvg()), through=lambda g: through(g, tap=Loses))
    assert not app.replied


def spoilt(name, value):
    def spoil(content):
        arrays = dict(content["arrays"])
        array = arrays[name].numpy().copy()
        array.flat[0] = value
        arrays[name] = Array(array)
        return RecordDict({"arrays": ArrayRecord(arrays), "metrics": content["metrics"]})

    return spoil


def without_bias(content):
    arrays = {n: a for n, a in content["arrays"].items() if n != "fc.bias"}
    return RecordDict({"arrays": ArrayRecord(arrays), "metrics": content["metrics"]})


def many(content):
    metrics = MetricRecord({"loss": 1.0, "num-examples": 6})
    return RecordDict({"arrays": content["arrays"], "metrics": metrics})


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoilt("conv.weight", np.nan), "conv.weight holds NaN or infinite values"),
        (spoilt("fc.bias", -9), "clipping_range = 8: fc.bias holds values up to 9; must be"),
        (without_bias, "needs the arrays that were sent, no more and no less: fc.bias"),
        (many, "max_weight = 5: a client has 6 images"),
    ],
)
def test_a_client_does_not_send_what_secagg_would_change(spoil, reason, secure, foreign):
    ledger = foreign.Ledger()
    strategy = RunLog(ReplyValidation(FedAvg()), ledger=ledger)
    secure(4, spoil={0: spoil}).run(strategy, rounds=1, through=through)
    [(_, client, told)] = ledger.named("unusable")
    assert client == "client-00"
    assert reason in told
    assert "\n" not in told


def test_no_client_answers_in_clear(secure):
    app = secure()
    with pytest.raises(NoUsableReplyError, match="secaggplus_configs"):
        app.run(ReplyValidation(FedAvg()))
    assert not app.replied
    message = Message(RecordDict(), dst_node_id=1, message_type="train.quickly")
    with pytest.raises(ValueError, match="no train action 'quickly'"):
        secure_aggregation_mod(message, None, None)


def test_the_servers_random_state_stays(secure):
    states = []

    class Looks(FedAvg):
        def configure_train(self, *args):
            messages = super().configure_train(*args)
            states.append(random.getstate())
            return messages

        def aggregate_train(self, *args):
            assert random.getstate() == states[-1]
            return super().aggregate_train(*args)

    secure().run(Looks(), rounds=2, through=through)
    assert len(states) == 2


@given(st.lists(st.lists(st.integers(0, 3), max_size=3), max_size=4), st.integers(0, 9))
def test_arrays_are_joined_and_split_again(shapes, seed):
    draw = np.random.default_rng(seed)
    arrays = {
        f"{i % 3}-{i}": Array(draw.standard_normal(s).astype("fd"[i % 2]))
        for i, s in enumerate(shapes)
    }
    found = _split(_flat(arrays), arrays)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert np.array_equal(found[name].numpy(), array.numpy())
        assert found[name].dtype == array.dtype


def test_flower_draws_its_masks_from_32_bits():
    """What the defence says of it is out of date when this fails."""
    one, other = bytes(range(32)), bytes([*range(4, 32), *range(4)])
    [first], [second] = (pseudo_rand_gen(seed, 2**32, [(99,)]) for seed in (one, other))
    assert np.array_equal(first, second)
