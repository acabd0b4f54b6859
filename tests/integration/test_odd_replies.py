"""Clients that answer, but not as the others do: what each of them costs the federation."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MessageType, MetricRecord
from flwr.serverapp.strategy import FedAvg

from strategies import ReplyValidation
from strategies.wrappers.run_log import RunLog


def tenfold(content):
    arrays = content["arrays"]
    content["arrays"] = ArrayRecord(
        {name: Array(np.concatenate([np.atleast_1d(a.numpy())] * 10)) for name, a in arrays.items()}
    )
    return content


def stray_bytes(content):
    array = content["arrays"]["fc.weight"]
    padded = array.data + bytes(10 * sum(len(a.data) for a in content["arrays"].values()))
    content["arrays"]["fc.weight"] = Array(array.dtype, array.shape, array.stype, padded)
    return content


def more_arrays(content):
    size = sum(array.numpy().size for array in content["arrays"].values())
    content["arrays"]["more"] = Array(np.ones(10 * size, np.float32))
    return content


def config_beside(content):
    content["notes"] = ConfigRecord({"text": "x" * 100_000})
    return content


def told(**metrics):
    def spoil(content):
        content["metrics"] = MetricRecord({"num-examples": 3} | metrics)
        return content

    return spoil


def renamed(kind):
    def spoil(content):
        content["mine"] = content.pop(kind)
        return content

    return spoil


LEFT_OUT = {
    "ten times the values": (tenfold, "has shape"),
    "arrays ten times the model": (more_arrays, "returned an array that was not sent, more"),
    "bytes behind an array": (stray_bytes, "fc.weight comes in"),
    "a missing metric": (told(), "tells num-examples"),
    "a metric of its own": (told(loss=0.5, mood=1.0), "tells loss, mood, num-examples"),
    "a metric with many values": (told(loss=[0.5] * 10), "tells loss"),
    "arrays under another name": (renamed("arrays"), "names its records metrics, mine"),
    "metrics under another name": (renamed("metrics"), "names its records arrays, mine"),
}


@pytest.mark.parametrize("kind", LEFT_OUT)
@pytest.mark.parametrize("client", [0, 2])
def test_an_odd_reply_is_left_out_and_the_model_is_that_of_the_others(
    kind, client, foreign, flower_log
):
    spoil, reason = LEFT_OUT[kind]
    ledger = foreign.Ledger()
    app = foreign.App(spoil={client: spoil})
    result = app.run(RunLog(ReplyValidation(FedAvg()), ledger=ledger), rounds=1)
    others = [p for p in range(3) if p != client]
    weights = [len(foreign.own_images(p)[0]) for p in others]
    for name, array in result.arrays.items():
        returned = [app.replied[1, p][name].numpy() for p in others]
        mean = np.average(returned, axis=0, weights=weights)
        np.testing.assert_allclose(array.numpy(), mean, rtol=1e-6, atol=1e-7)
    [line] = [line for line in flower_log if line.endswith("; left out of the model")]
    assert line.startswith(f"round 1: client-{client:02d} ")
    assert reason in line
    assert ledger.named("close") == [("completed", "")]


@pytest.mark.parametrize("spoil", [told(loss=float("nan")), told(loss=float("inf")), config_beside])
def test_what_is_only_told_does_not_change_the_model(spoil, foreign):
    app, well = foreign.App(spoil={1: spoil}), foreign.App()
    ledger = foreign.Ledger()
    odd = app.run(RunLog(ReplyValidation(FedAvg()), ledger=ledger), rounds=2)
    assert foreign.bits(odd)["arrays"] == foreign.bits(well.run(FedAvg(), rounds=2))["arrays"]
    assert ledger.named("close") == [("completed", "")]


def evaluates(change):
    """Return what changes the answers of one client to an evaluation."""

    def mod(message, context, call_next):
        reply = call_next(message, context)
        asked = message.metadata.message_type == MessageType.EVALUATE
        if asked and context.node_config["partition-id"] == 1:
            change(reply.content)
        return reply

    return mod


@pytest.mark.parametrize(
    "change",
    [told(), told(loss=float("nan")), told(loss=0.5, mood=1.0), renamed("metrics"), dict.clear],
)
def test_an_odd_evaluation_ends_no_run(change, foreign):
    ledger = foreign.Ledger()
    app = foreign.App(mods=(evaluates(change),))
    odd = app.run(RunLog(ReplyValidation(FedAvg()), ledger=ledger), rounds=2)
    assert foreign.bits(odd)["arrays"] == foreign.bits(foreign.App().run(FedAvg()))["arrays"]
    assert ledger.named("close") == [("completed", "")]
