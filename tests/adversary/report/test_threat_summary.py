import pytest

from adversary.report.threat_summary import summarize_threat


def sources(info):
    return {one.thing: one.source for one in summarize_threat(info)}


def test_a_server_without_oracles():
    found = sources({"threat": {"view": "client", "labels_known": False, "defence_known": True}})
    assert found == {
        "The model": "has", "The update": "has", "How clients train": "has",
        "Other X-rays": "public", "The defence": "public", "The diagnoses": "not told",
        "The patients’ X-rays": "not told",
    }  # fmt: skip


@pytest.mark.parametrize("oracles", [["labels known"], ["labels known", "noise known"]])
def test_every_oracle_is_marked_once(oracles):
    found = summarize_threat({"threat": {"labels_known": True}, "oracles": oracles})
    assert [one.source for one in found].count("oracle") == len(oracles)
    assert "defence" not in " ".join(one.thing for one in found)  # nothing is known of it


def test_an_unknown_defence_is_not_told():
    assert sources({"threat": {"defence_known": False}})["The defence"] == "not told"


def test_an_aggregate_is_a_mean_and_masks_are_explained():
    (update,) = (
        o for o in summarize_threat({"threat": {"view": "aggregate"}}) if "update" in o.thing
    )
    assert "mean of what all clients" in update.meaning
    assert "-masked" in update.meaning
    audit = {"threat": {"view": "aggregate"}, "audit": True, "clients": {"a": 1, "b": 2}}
    (update,) = (one for one in summarize_threat(audit) if "update" in one.thing)
    assert update.meaning == "The mean of what the 2 clients made of the model."
