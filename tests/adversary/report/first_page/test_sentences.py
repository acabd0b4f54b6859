"""What the first page says and advises, for runs of each kind."""

import math
from pathlib import Path

import pytest

from adversary.identification import figures
from adversary.report.first_page.actions import ACTIONS, next_steps
from adversary.report.first_page.answers import QUESTIONS, answers, headline
from adversary.report.first_page.assessment import assessment
from adversary.report.first_page.situation import Evidence, situation_of
from adversary.report.identified import Named, Naming
from adversary.report.leakage_rows import with_levels
from adversary.report.summary import NOBODY, summarise
from adversary.scoring.identification_scores import ALARMS
from adversary.storage import csv_table
from adversary.storage.schemas import LEAKAGE

ABOUT = {
    "title": "mine",
    "started": "2026-05-01T10:00:00+00:00",
    "status": "completed",
    "clients": {f"client-{i:02d}": 200 for i in range(8)},
    "data": {"name": "kermany", "private": 1600, "public": 20, "attribution": "X, CC BY 4.0; y"},
    "settings": {
        "rounds": 3, "local.batch-size": 4, "local.max-steps": 1, "model.name": "convnet",
        "adversary.attack": "standard", "adversary.effort": "standard", "out": "/r/mine",
    },
    "defence": {"name": "none"},
    "candidates": 1600,
}  # fmt: skip
POOR = {"psnr": 9.0, "rdlv": -0.5, "reidentified": False, "negative": False, "prior_psnr": 18.0}
COPY = {"psnr": 52.0, "rdlv": 1.0, "reidentified": True, "bound_psnr": 60.0, "prior_psnr": 18.0}
ACCOUNT = {
    "client": "client-00", "round": 3, "rounds": 3, "epsilon": 3.0, "delta": 1e-3,
    "neighbours": "add or remove one", "unit": "example", "accountant": "RDP",
    "against": "everyone who sees updates or models, the server included",
}  # fmt: skip


def situation(tmp_path, *rows, accounts=(), recorded=True, naming=NOBODY, **about):
    where = {"round": 1, "client": "client-00", "attack": "standard", "image": 0, "score": 1.0,
             "status": "ok", "seconds": 30.0}  # fmt: skip
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "leakage.csv"
    csv_table.create(path, LEAKAGE)
    numbered = [where | {"truth": f"p{i}", "image": i} | row for i, row in enumerate(rows)]
    csv_table.append(path, LEAKAGE, numbered)
    leveled = with_levels(csv_table.read(path, LEAKAGE), accounts)
    info = ABOUT | about
    evidence = Evidence(rows=leveled, accounts=list(accounts), recorded=recorded, naming=naming)
    return situation_of(Path("/r/mine"), info, summarise(leveled, info, naming), evidence)


def named(client, hits, members, round=None, candidates=400):
    """Return a line of identification.csv: hits of a client's members are named."""
    row = {"client": client, "round": round, "members": members, "candidates": candidates,
           "tpr_1": hits / members, "auc": 0.9}  # fmt: skip
    others = candidates - members
    chance = figures.chance(hits, members, others, ALARMS)
    return Named(row=row, hits=hits, low=0.0, high=1.0, chance=chance)


def naming_of(*lines):
    return Naming(lines=lines, chance=1e-9, strongest=lines[0])


def said(of):
    return {one.slug: " ".join(one.sentences) for one in answers(of)}


def test_a_visible_patient_is_told_by_hospital_round_and_share(tmp_path):
    of = situation(tmp_path, COPY, COPY | {"client": "client-03", "round": 2}, POOR)
    told = said(of)
    assert headline(of) == "Patient visible"
    assert told["visible"].endswith("see patients’ X-rays: 2 of 3 examined.")
    assert "Patient visible: client-00 and client-03 (2 of 8)" in told["where"]
    assert "a copy to the last grey level (52.0 dB)" in told["meaning"]
    assert "No limit protects" in told["meaning"]
    assert (
        "Not examined: client-01, client-02, client-04, client-05, client-06 and client-07."
        in (told["unknown"])
    )
    assert "2 of 8 hospitals, 2 of 3 rounds, 3 of 1,600 X-rays" in told["unknown"]
    assert "Between 9% and 99% of all X-rays" in told["unknown"]  # Clopper and Pearson, 2 of 3


def test_hospitals_have_the_names_that_are_given(tmp_path):
    of = situation(tmp_path, COPY, hospitals={"client-00": "St Mary"})
    assert "Patient visible: St Mary (client-00)" in said(of)["where"]


def test_the_mean_of_all_is_no_hospital(tmp_path):
    of = situation(tmp_path, COPY | {"client": "aggregate"}, threat={"view": "aggregate"})
    assert "Patient visible: the mean of all 8 hospitals" in said(of)["where"]
    assert "Not examined" not in said(of)["unknown"]


def test_a_hospital_whose_patients_can_be_named_is_told_as_such(tmp_path):
    found = naming_of(
        named("client-01", 15, 16), named("client-04", 8, 9), named("client-05", 1, 9)
    )
    rows = [POOR, POOR | {"client": "client-01"}, POOR | {"client": "client-04"}]
    of = situation(tmp_path, *rows, naming=found)
    told = said(of)
    assert headline(of) == "Patient re-identifiable"
    assert "Patient re-identifiable: client-01 and client-04 (2 of 8)." in told["where"]
    assert "Open: client-00 (1 of 8)" in told["where"]
    assert (
        "Given their X-rays, the server can name 15 of 16 patients of client-01 at one false "
        "alarm in a hundred (all rounds joined), and patients of client-04."
    ) in told["visible"]


def test_what_is_said_of_batches_is_of_the_update_that_gave_most_away(tmp_path):
    def why(*rows, **kind):
        of = situation(tmp_path, *rows, **kind)
        return {step.name: step.why for step in next_steps(of)}["batches"]

    alone = [COPY, POOR | {"client": "client-01"}, POOR | {"client": "client-01"}]
    assert why(*alone).startswith("One X-ray a step, as in the worst update here, is the easiest")
    assert why(COPY, POOR, POOR).startswith("Here 3 X-rays shared a step, and the worst picture is")
    found = naming_of(named("client-01", 15, 16))
    assert why(*alone, naming=found).startswith("Here X-rays are in batches of 4, and the server")


def test_an_attack_that_failed_is_no_comfort(tmp_path):
    of = situation(tmp_path, POOR | {"bound_psnr": 46.5})
    told = said(of)
    assert told["visible"] == (
        "Not by the attacks that were run: they got little. This is no evidence of safety: a "
        "stronger attack may see more, up to 46.5 dB on average."
    )
    assert "no nearer than the mean public X-ray (9.0 dB; the mean has 18.0 dB)" in told["meaning"]
    names = [step.name for step in next_steps(of)]
    assert names == ["defences", "thorough", "identify", "rest", "repeat"]


def test_attacks_that_all_failed_are_told_from_attacks_that_got_little(tmp_path):
    failed = {"status": "failed", "truth": None}
    of = situation(tmp_path, failed, failed | {"client": "client-01"})
    told = said(of)
    assert headline(of) == "Not measured: every attack failed"
    assert told["visible"] == (
        "Not known: all 2 attacks failed, so there is nothing to judge; the reasons are below. "
        "An attack that failed is no evidence of safety."
    )
    assert told["where"] == "Not measured: client-00 and client-01 (2 of 8)."
    assert "neither harm nor safety" in told["meaning"]
    assert [step.name for step in next_steps(of)] == ["failed"]
    some = said(situation(tmp_path / "some", POOR, failed))["unknown"]
    assert "1 attack failed, for reasons given below" in some


def test_patients_can_be_named_where_every_attack_failed(tmp_path):
    failed = {"status": "failed", "truth": None}
    of = situation(tmp_path, failed, naming=naming_of(named("client-01", 15, 16)))
    told = said(of)
    assert headline(of) == "Patient re-identifiable"
    assert told["visible"].startswith("Not known: the attack failed, so there is no picture")
    assert "the server can name 15 of 16 patients of client-01" in told["visible"]
    assert "who was in the training" in told["meaning"]
    assert "stop" in [step.name for step in next_steps(of)]


def test_a_bound_below_what_was_reached_is_told_as_an_average(tmp_path):
    of = situation(tmp_path, POOR | {"psnr": 19.9, "bound_psnr": 18.4})
    assert "lies above that average (19.9 dB), as single ones may" in said(of)["meaning"]


@pytest.mark.parametrize(
    ("rows", "about", "expected"),
    [
        ([COPY], {}, ["stop", "defences", "batches", "repeat"]),
        ([COPY], {"data": {"synthetic": True}}, ["stop-synthetic", "defences", "batches",
                                                 "repeat"]),
        ([COPY], {"status": "stopped"}, ["go-on", "stop", "defences", "batches", "repeat"]),
        ([POOR | {"bound_psnr": 18.5}], {}, ["keep", "rest", "repeat"]),
        ([POOR], {"settings": ABOUT["settings"] | {"adversary.attack": "dlg"}},
         ["defences", "standard", "bound", "identify", "rest", "repeat"]),
        ([POOR | {"truth": None, "psnr": None, "rdlv": None}], {"audit": True},
         ["truth", "defences", "thorough", "repeat"]),
        ([POOR | {"bound_psnr": 46.5}], {"missing": {"identification": "its model is too large"}},
         ["defences", "thorough", "rest", "repeat"]),
        ([], {}, []),
    ],
)  # fmt: skip
def test_steps_follow_from_verdict_bound_coverage_and_settings(tmp_path, rows, about, expected):
    assert [step.name for step in next_steps(situation(tmp_path, *rows, **about))] == expected


def test_every_step_says_what_and_why_in_sentences(tmp_path):
    of = situation(tmp_path, COPY, accounts=[ACCOUNT | {"epsilon": 5540.0}], recorded=False)
    for name, rule in ACTIONS.items():
        if name == "epsilon" or rule.applies(of):
            assert rule.what(of).endswith("."), name
            assert rule.why(of).endswith("."), name


def test_commands_name_the_run_and_its_data(tmp_path):
    of = situation(tmp_path, POOR | {"bound_psnr": 46.5})
    commands = {step.name: step.command for step in next_steps(of)}
    assert commands["thorough"] == "fl-sim attack /r/mine --set adversary.effort=thorough"
    assert commands["defences"].startswith("fl-sim compare --config configs/compare.toml --set ")
    assert "--set local.batch-size=4" in commands["defences"]


@pytest.mark.parametrize(
    ("epsilon", "told"),
    [
        (0.5, "at most 1.7-fold"),
        (3.0, "at most 21-fold"),  # e**3 = 20.09, rounded up
        (5540.0, "ε = 5,540 at δ = 1.0e-03 for one X-ray (add or remove one), against everyone"),
        (5540.0, "This ε is too large to promise much."),
    ],
)
def test_an_epsilon_is_a_statement(tmp_path, epsilon, told):
    of = situation(tmp_path, POOR, accounts=[ACCOUNT | {"epsilon": epsilon}],
                   defence={"name": "dp-sgd"})  # fmt: skip
    assert told in said(of)["meaning"]
    assert ("epsilon" in [step.name for step in next_steps(of)]) is (epsilon > 10)


@pytest.mark.parametrize("epsilons", [[math.inf], [1.0, math.inf], [None], []])
def test_a_mechanism_that_earns_none_has_no_epsilon(tmp_path, epsilons):
    accounts = [ACCOUNT | {"epsilon": one} for one in epsilons]
    of = situation(tmp_path, POOR, accounts=accounts, defence={"name": "gaussian-noise"})
    assert of.guarantee is None
    assert "ε =" not in said(of)["meaning"]
    assert "The defence earns no ε here" in said(of)["meaning"]


def test_an_epsilon_against_others_promises_nothing_against_the_server(tmp_path):
    against = "those who see the released models alone, not the server"
    of = situation(tmp_path, COPY, accounts=[ACCOUNT | {"against": against}])
    assert (
        "It promises nothing against the server, which is the attacker here."
        in (said(of)["meaning"])
    )


def test_the_weakest_account_counts(tmp_path):
    accounts = [ACCOUNT, ACCOUNT | {"client": "client-01", "epsilon": 7.0}]
    assert situation(tmp_path, POOR, accounts=accounts).guarantee.epsilon == 7.0


def test_without_truth_nothing_is_claimed(tmp_path):
    blind = POOR | {"truth": None, "psnr": None, "rdlv": None, "certificate": "proved"}
    of = situation(tmp_path, blind, audit=True)
    told = said(of)
    assert headline(of) == "Not measured: no true X-rays to compare with"
    assert told["visible"].startswith("Not known from here")
    assert "proved 1 of 1 pictures" in told["visible"]
    assert "interval" not in told["unknown"]


def test_the_assessment_names_means_result_and_what_is_left_to_the_officer(tmp_path):
    found = assessment(situation(tmp_path, COPY, COPY | {"round": 2}))
    for text in ("On 2026-05-01", "“kermany”", "20 public X-rays", "60 seconds of one computer",
                 "means reasonably likely to be used", "Result: patient visible",
                 "Not examined: 7 hospitals", "To be repeated when"):  # fmt: skip
        assert text in found.paragraph, text
    assert [name for name, value in found.row.items() if not value] == [
        "Likelihood", "Severity", "Approved by"
    ]  # fmt: skip
    assert assessment(situation(tmp_path)) is None


def test_an_oracle_is_no_means_reasonably_likely_to_be_used(tmp_path):
    found = assessment(situation(tmp_path, COPY, oracles=["labels known"]))
    assert "which a server would have to be told" in found.paragraph
    assert "reasonably likely" not in found.paragraph


def test_a_run_is_told_in_a_line(tmp_path):
    of = situation(tmp_path, COPY, versions={"fl-sim": "0.1.0"})
    assert of.about.line == (
        "kermany (CC BY 4.0) · 8 hospitals · 1,600 X-rays · convnet · batches of 4, 1 local step "
        "a round · 3 rounds · defence: none · attack: standard (standard effort) · 2026-05-01 · "
        "fl-sim 0.1.0"
    )


def test_a_run_of_a_seed_is_called_by_its_setting(tmp_path):
    from adversary.report.first_page.about_run import run_title

    assert run_title("seed-1", tmp_path / "noise 0.1" / "seed-1") == "noise 0.1, seed 1"
    assert run_title("mine", tmp_path / "mine") == "mine"


def test_every_question_is_answered_before_any_attack(tmp_path):
    told = said(situation(tmp_path))
    assert list(told) == list(QUESTIONS)
    assert "no attack has finished yet" in told["visible"]


def test_a_strong_guarantee_is_named_as_what_protects(tmp_path):
    strong = ACCOUNT | {"epsilon": 0.8, "delta": 1e-5}
    of = situation(tmp_path, POOR | {"bound_psnr": 60.0}, accounts=[strong])
    assert headline(of) == "Protected"
    assert "The privacy guarantee below says so, not an attack that failed." in said(of)["visible"]
    weak = situation(tmp_path, POOR | {"bound_psnr": 60.0}, accounts=[ACCOUNT])
    assert headline(weak) == "Open"


def test_what_is_protected_is_told_as_far_as_it_was_examined(tmp_path):
    safe = POOR | {"bound_psnr": 18.4}
    some = situation(tmp_path / "some", safe)
    assert headline(some) == "Protected, as far as examined (1 of 1,600 X-rays)"
    assert "Up to 98% of all X-rays could still be visible" in said(some)["unknown"]  # 1 of 1
    every = situation(tmp_path / "all", safe, clients={"client-00": 1})
    assert headline(every) == "Protected"
    assert "could still be visible" not in said(every)["unknown"]


def test_a_picture_that_is_as_near_to_others_is_told_as_such(tmp_path):
    near = POOR | {"psnr": 19.6, "null_psnr": 19.0}
    assert (
        "a blur (19.6 dB), and as near to other patients."
        in (said(situation(tmp_path / "near", near))["meaning"])
    )
    beyond = said(situation(tmp_path / "beyond", near | {"null_psnr": 18.0}))["meaning"]
    assert "a blur (19.6 dB)." in beyond


def test_poor_pictures_that_point_to_their_patients_show_nothing_more(tmp_path):
    pointing = POOR | {"reidentified": True, "rank_chance": 0.01, "rdlv": -0.5}
    poor = said(situation(tmp_path / "poor", pointing | {"psnr": 10.0}))["visible"]
    assert poor.startswith("No, but poor pictures point to their patients more often than by")
    near = said(situation(tmp_path / "near", pointing | {"psnr": 19.6, "null_psnr": 12.0}))
    assert near["visible"].startswith("No, but updates gave away more of patients than any chest")


def test_x_rays_that_nobody_trained_on_are_not_counted(tmp_path):
    of = situation(tmp_path, POOR, clients={"client-00": 2})
    assert "2 X-rays" in of.about.line
    assert "1 of 2 X-rays" in said(of)["unknown"]


def test_where_every_update_was_attacked_more_rounds_are_advised(tmp_path):
    about = {"clients": {"client-00": 6}, "settings": ABOUT["settings"] | {"rounds": 1}}
    of = situation(tmp_path, POOR | {"bound_psnr": 18.4}, **about)
    steps = {step.name: step for step in next_steps(of)}
    assert list(steps) == ["keep", "rounds", "repeat"]
    assert steps["rounds"].why.endswith("1 of 6 X-rays went into them.")
    assert steps["rounds"].command == "fl-sim run … --set rounds=6"


def test_nobody_looked_for_by_name_is_told(tmp_path):
    assert "Nobody was looked for by name" in said(situation(tmp_path / "none", POOR))["unknown"]
    found = situation(tmp_path / "some", POOR, naming=naming_of(named("client-01", 15, 16)))
    assert "Nobody was looked for" not in said(found)["unknown"]


def test_of_an_app_of_ones_own_nothing_is_claimed_that_was_not_told(tmp_path):
    blind = POOR | {"truth": None, "psnr": None, "rdlv": None, "certificate": "open"}
    arguments = {"image_shape": [1, 28, 28], "attacks": "standard", "batch_size": 8}
    of = situation(
        tmp_path, blind, recorded=False, settings=arguments, data={}, clients={}, defence={}
    )
    assert of.about.line.startswith(
        "data not told · 28×28 pixels · batches of 8 · defence: not told · attack: standard"
    )
    assert "could prove none of its 1 pictures, which is no evidence" in said(of)["visible"]
    steps = {step.name: step for step in next_steps(of)}
    assert list(steps) == ["truth", "defences", "record", "repeat"]
    assert steps["record"].command == "curious(…, record=True)"
    kept = situation(tmp_path / "kept", blind, settings=arguments, data={}, clients={}, defence={})
    assert [step.name for step in next_steps(kept)] == ["truth", "defences", "repeat"]
    assert steps["defences"].why.startswith("Whether clients change their updates was not told")
