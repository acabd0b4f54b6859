from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord
from flwr.serverapp.strategy import FedAvg

from strategies import NoUsableReplyError, ReplyValidation


def edit(name, change):
    def spoil(content):
        arrays = content["arrays"]
        arrays[name] = Array(change(arrays[name].numpy().copy()))
        return content

    return spoil


def nan(array):
    array.flat[0] = np.nan
    return array


def infinite(array):
    array.flat[-1] = -np.inf
    return array


def without(name):
    def spoil(content):
        del content["arrays"][name]
        return content

    return spoil


def metrics(**values):
    def spoil(content):
        content["metrics"] = MetricRecord({k.replace("_", "-"): v for k, v in values.items()})
        return content

    return spoil


def more(key, record):
    def spoil(content):
        content[key] = record
        return content

    return spoil


def only(**arrays):
    def spoil(content):
        content["arrays"] = ArrayRecord({k: Array(v) for k, v in arrays.items()})
        return content

    return spoil


def unreadable(content):
    array = content["arrays"]["fc.bias"]
    content["arrays"]["fc.bias"] = Array(array.dtype, array.shape, array.stype, array.data[:70])
    return content


def raises(content):
    raise RuntimeError("the scanner is on fire")


BAD = {
    "nan": (edit("fc.weight", nan), "fc.weight holds NaN"),
    "infinite": (edit("norm.running_var", infinite), "norm.running_var holds NaN or infinite"),
    "transposed": (edit("fc.weight", np.transpose), "fc.weight has shape (27, 2), sent (2, 27)"),
    "broadcastable": (edit("fc.bias", lambda a: a[:1]), "fc.bias has shape (1,), sent (2,)"),
    "lacks": (without("conv.bias"), "returned no array conv.bias"),
    "adds": (edit("fc.bias", lambda a: a), None),
    "foreign": (only(other=np.zeros(2)), "shares no array"),
    "empty": (only(), "shares no array"),
    "unreadable": (unreadable, "fc.bias cannot be read"),
    "no number": (metrics(loss=1.0), "num-examples is None"),
    "zero": (metrics(loss=1.0, num_examples=0), "num-examples is 0"),
    "negative": (metrics(loss=1.0, num_examples=-3), "num-examples is -3"),
    "not a number": (metrics(loss=1.0, num_examples=float("nan")), "num-examples is nan"),
    "a list": (metrics(loss=1.0, num_examples=[1, 2]), "num-examples is [1, 2]"),
    "two arrays": (more("again", ArrayRecord()), "carries 2 array records"),
    "two metrics": (more("again", MetricRecord()), "carries 2 metric records"),
    "raises": (raises, "failed: RuntimeError: the scanner is on fire"),
}
BAD["adds"] = (
    lambda content: content["arrays"].__setitem__("extra", Array(np.zeros(2))) or content,
    "returned an array that was not sent, extra",
)


def mean_of(app, partitions, name):
    weights = np.array([len(app_images) for app_images in partitions.values()], dtype=float)
    arrays = [app.replied[1, p][name].numpy() for p in partitions]
    return np.average(arrays, axis=0, weights=weights)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_reply_is_left_out_with_one_line(kind, foreign, flower_log):
    spoil, reason = BAD[kind]
    app = foreign.App(spoil={1: spoil})
    result = app.run(ReplyValidation(FedAvg()), rounds=1)
    rest = {p: foreign.own_images(p)[0] for p in (0, 2)}
    for name, array in result.arrays.items():
        np.testing.assert_allclose(array.numpy(), mean_of(app, rest, name), rtol=1e-6, atol=1e-7)
    told = [line for line in flower_log if line.startswith("round 1: ")]
    assert len(told) == 1
    assert told[0].startswith(f"round 1: client-01 {reason}")
    assert told[0].endswith("; left out of the model")
    assert "\n" not in told[0]


def test_replies_that_tell_of_an_error_reach_the_wrapped_strategy_and_bad_ones_do_not(foreign):
    reached = []

    class Looks(FedAvg):
        def aggregate_train(self, server_round, replies):
            replies = list(replies)
            reached.extend(sorted(reply.has_error() for reply in replies))
            return super().aggregate_train(server_round, replies)

    app = foreign.App(spoil={0: BAD["raises"][0], 1: BAD["nan"][0]})
    app.run(ReplyValidation(Looks()), rounds=1)
    assert reached == [False, True]


def test_flower_alone_would_take_nan_for_the_model(foreign):
    app = foreign.App(spoil={1: BAD["nan"][0]})
    assert np.isnan(app.run(FedAvg(), rounds=1).arrays["fc.weight"].numpy()).any()


def test_good_replies_pass_unchanged(foreign):
    app = foreign.App()
    assert foreign.bits(app.run(ReplyValidation(FedAvg()))) == foreign.bits(app.run(FedAvg()))


@pytest.mark.parametrize("kind", ["nan", "raises", "no number"])
def test_the_run_ends_when_nobody_is_left(kind, foreign):
    spoil, reason = BAD[kind]
    app = foreign.App(spoil=dict.fromkeys(range(3), spoil))
    with pytest.raises(NoUsableReplyError) as error:
        app.run(ReplyValidation(FedAvg()), rounds=1)
    message = str(error.value)
    assert message.startswith("round 1: none of 3 clients returned a usable update: client-00")
    assert all(f"client-{p:02d}" in message for p in range(3))
    assert message.count(reason) == 1
    assert "\n" not in message


def test_clients_with_the_same_fault_are_told_of_together(foreign):
    (nan, holds), (raises, failed) = BAD["nan"], BAD["raises"]
    app = foreign.App(spoil={0: nan, 1: raises, 2: nan})
    with pytest.raises(NoUsableReplyError) as error:
        app.run(ReplyValidation(FedAvg()), rounds=1)
    told = str(error.value).partition("usable update: ")[2]
    assert told.startswith(f"client-00, client-02 {holds}")
    assert f"; client-01 {failed}" in told


def test_no_reply_at_all_ends_the_run():
    with pytest.raises(NoUsableReplyError, match="round 4: .*no reply came"):
        ReplyValidation(FedAvg()).aggregate_train(4, [])
