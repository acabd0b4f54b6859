import re

import hypothesis.strategies as st
import torch
from hypothesis import HealthCheck, given, settings

from adversary.common.results import Reconstruction
from adversary.common.truth import Truth
from adversary.priors.public import Prior
from adversary.report import gallery, run_page
from adversary.report.flags import FLAGS
from adversary.report.identified import valid_accounts
from adversary.report.leakage_rows import closeness, with_levels
from adversary.report.pictures import draw
from adversary.report.templates import TEMPLATES
from adversary.scoring.image_scores import score_images
from adversary.scoring.verdict import Severity
from adversary.storage import csv_table
from adversary.storage.run_folder import RunFolder
from adversary.storage.schemas import IDENTIFICATION, LEAKAGE

ODD = """<script>alert(1)</script>"><img src=x onerror='alert(1)'>&$x_{"""


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_whole_run(folder, attacked, check):
    attacked(folder)
    folder.add_failure(2, "client-01", "dlg", "ran out of memory")
    folder.note_missing(lpips="no weights here")
    folder.finish("completed")
    folder.update(
        settings={"defence": {"name": "none"}}, versions={"torch": "2.15"}, device="cpu",
        oracles=["labels known"], threat={"labels": "known"},
        data={"name": "Kermany", "attribution": "CC BY 4.0, Kermany", "synthetic": False},
    )  # fmt: skip
    page = check(run_page.render(folder))
    assert page.tags.count("svg") == 4
    truths = [image for image in page.images if image["alt"].startswith("True")]
    assert len(truths) == 5  # the worst is on the first screen too
    for text in (
        "the server could see patients’ X-rays: 2 of 2 examined", "100%",
        "Patient visible: client-00 and client-01 (2 of 2)",
        "by chance 25%", "ran out of memory", "no weights here", "Upper bound", "labels known",
        "defence.name", "CC BY 4.0, Kermany", "torch", "Inverting gradients",
        "Worst X-ray: p0.png, from the update of client-00 in round",
    ):  # fmt: skip
        assert text in page.text, text
    assert "Synthetic images." not in page.text


def test_rendering_again_gives_the_same_page(folder, attacked):
    attacked(folder)
    first = run_page.render(folder).read_bytes()
    assert run_page.render(RunFolder.open(folder.path)).read_bytes() == first


def test_everything_that_users_name_is_escaped(tmp_path, attacked, check):
    folder = RunFolder.create(
        tmp_path / "run", title=ODD, settings={ODD: ODD}, threat={ODD: ODD}, oracles=[ODD],
        data={"name": ODD, "attribution": ODD}, versions={ODD: ODD}, device=ODD, revision=ODD,
    )  # fmt: skip
    attacked(folder, clients=(ODD, ODD + "2"), attack=ODD)
    folder.add_failure(1, ODD, ODD, ODD)
    folder.note_missing(lpips=ODD)
    folder.finish("failed", ODD)
    page = check(run_page.render(folder))
    assert page.text.count(ODD) > 30
    assert any(ODD in image["alt"] for image in page.images)


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=12)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(client=NAMES, attack=NAMES, truth=NAMES)
def test_hostile_names_stay_text(tmp_path_factory, check, client, attack, truth):
    names = [f"<b {name}'\"></script>" for name in (client, attack, truth)]
    folder = RunFolder.create(tmp_path_factory.mktemp("runs") / "run")
    row = {"round": 1, "client": names[0], "attack": names[1], "image": 0, "truth": names[2]}
    csv_table.append(
        folder.path / "leakage.csv", LEAKAGE, [row | {"psnr": 9.0, "score": 1.0, "status": "ok"}]
    )
    page = check(run_page.render(folder))
    assert "b" not in page.tags
    assert not [name for name in names if " ".join(name.split()) not in " ".join(page.text.split())]


def test_a_run_without_attacks_yet(folder, check):
    page = check(run_page.render(folder))
    assert "no attack has finished yet" in page.text
    assert "Written while the run went on" in page.text


def test_only_failures(folder, check):
    folder.add_failure(1, "client-00", "dlg", "shape mismatch")
    page = check(run_page.render(folder))
    assert "the attack failed, so there is nothing to judge" in page.text
    assert "shape mismatch" in page.text
    assert "Every attack failed." in page.text


def test_without_truth_only_the_attackers_own_score_is_shown(folder, check):
    found = Reconstruction(
        images=rand(2, 1, 16, 16), labels=torch.tensor([0, 1]), score=0.0625, seconds=1,
        evaluations=5,
    )  # fmt: skip
    folder.add_reconstruction(1, "client-00", "ing", found, drawn=draw(found))
    page = check(run_page.render(folder))
    assert "this run has no true images" in page.text
    assert "0.0625" in page.text
    assert "no truth in this run" in page.text
    alts = [image["alt"] for image in page.images]
    assert len([alt for alt in alts if alt.startswith("Reconstruction")]) == 3
    assert not [alt for alt in alts if alt.startswith(("True", "Absolute"))]
    assert "From model updates alone the server could see" not in page.text


def test_a_run_where_nothing_leaks(tmp_path, check):
    folder = RunFolder.create(tmp_path / "run", data={"synthetic": True})
    truth = Truth(images=rand(1, 1, 16, 16), labels=torch.tensor([1]), names=("p",))
    found = Reconstruction(
        images=torch.full((1, 1, 16, 16), 0.5), labels=truth.labels, score=1.0, seconds=1,
        evaluations=5,
    )  # fmt: skip
    scores = score_images(
        found, truth, prior=Prior(truth.images), candidates=rand(5, 1, 16, 16, seed=1)
    )
    folder.add_reconstruction(
        1, "client-00", "ing", found, scores, draw(found, scores, truth.images)
    )
    page = check(run_page.render(folder))
    assert "no evidence of safety" in page.text
    assert "Synthetic images." in page.text


def test_missing_and_damaged_pictures_do_not_stop_the_report(folder, attacked, check):
    attacked(folder, rounds=1)
    folder.images(1, "client-00", "ing").joinpath("truth-00.png").unlink()
    folder.images(1, "client-01", "ing").joinpath("reconstruction-00.png").write_bytes(b"\x89PNG")
    assert "no picture" in check(run_page.render(folder)).text


def test_a_large_run_shows_the_worst_and_sums_up_the_others(folder, monkeypatch, attacked, check):
    monkeypatch.setattr(gallery, "MAX_CARDS", 1)
    monkeypatch.setattr(run_page, "MAX_GROUPS", 2)
    monkeypatch.setattr(run_page, "MAX_ROWS", 3)
    attacked(folder, rounds=3, clients=[f"client-{i:02d}" for i in range(4)], noise=0.4)
    page = check(run_page.render(folder))
    assert len([image for image in page.images if image["alt"].startswith("True")]) == 2
    for text in (
        "1 of 12 reconstructions", "worst 2 of 4 clients", "worst 2 of 3 rounds",
        "The worst 3 of 12 rows",
    ):  # fmt: skip
        assert text in page.text, text
    worst = max(with_levels(folder.leakage()), key=closeness)
    assert f"{worst['truth']}, from the update of {worst['client']} in round" in page.text


def test_ten_thousand_rows_make_a_small_page(folder, check):
    rows = [
        {"round": 1 + i // 1000, "client": f"client-{i % 1000:04d}", "attack": "ing", "image": 0,
         "truth": f"p{i}", "psnr": 10 + i % 29, "rdlv": 0.1, "score": 1.0, "status": "ok"}
        for i in range(10_000)
    ]  # fmt: skip
    csv_table.append(folder.path / "leakage.csv", LEAKAGE, rows)
    page = run_page.render(folder)
    assert page.stat().st_size < 500_000
    assert "worst 24 of 1000 clients" in check(page).text


def test_an_exact_copy_has_no_finite_psnr(folder, attacked, check):
    attacked(folder, rounds=1, noise=0.0)
    assert "exact" in check(run_page.render(folder)).text


def test_privacy_accounts_are_shown_as_they_stand_last(folder, attacked, check):
    attacked(folder)
    about = {"delta": 1e-5, "neighbours": "add or remove one", "unit": "example",
             "accountant": "RDP (opacus)", "against": ODD}  # fmt: skip
    for number, client, epsilon in ((1, "b", 1.5), (1, "a", 0.25), (2, "b", 2.75)):
        folder.add_account(round=number, client=client, rounds=number, epsilon=epsilon, **about)
    page = check(run_page.render(folder))
    assert "privacy" in page.ids
    section = page.text.partition("Protects against")[2].partition("Threat model")[0]
    assert section.index("2.75") < section.index("0.25")
    assert "1.50" not in section
    assert section.count("add or remove one") == section.count(ODD) == 2


def test_without_accounts_there_is_no_such_section(folder, attacked, check):
    attacked(folder)
    page = check(run_page.render(folder))
    assert "privacy" not in page.ids
    assert "#privacy" not in page.links


def test_updates_that_no_image_went_into_are_named(folder, attacked, check):
    attacked(folder, rounds=1)
    folder.note_without_images(1, "client-07")
    assert "the update of client-07 in round 1: its random" in check(run_page.render(folder)).text


def figures(folder, *rows, **about):
    """Write rows of one image each, round 1, and return the page's parts."""
    where = {"round": 1, "attack": "standard", "image": 0, "score": 1.0, "status": "ok"}
    csv_table.append(
        folder.path / "leakage.csv",
        LEAKAGE,
        [where | {"client": f"c{i}", "truth": f"p{i}"} | row for i, row in enumerate(rows)],
    )
    folder.update(**about)
    return run_page.render(folder)


POOR = {"psnr": 9.0, "rdlv": -0.5, "reidentified": False, "negative": False, "prior_psnr": 18.0}
GREEN = Severity.PROTECTED.label


def first_screen(page):
    return page.text.partition("status: running")[2].partition("Leakage by round")[0]


def test_a_failed_attack_below_a_high_bound_is_open_and_no_comfort(folder, check):
    rows = [POOR | {"bound_psnr": 46.5, "flags": "below-mean;bound-far-above"}] * 2
    page = check(
        figures(folder, *rows, clients={f"c{i}": 3 for i in range(8)}, settings={"rounds": 30})
    )
    first = first_screen(page)
    for text in (
        "Not by the attacks that were run: they got little.", "This is no evidence of safety",
        "up to 46.5 dB",
        "a single picture may come out a few dB nearer",
        "Examined: 2 of 8 hospitals, 1 of 30 rounds, 2 of 24 X-rays",
        "below the mean image (2)", "bound far above the attack (2)",
    ):  # fmt: skip
        assert text in first, text
    assert GREEN not in first
    flags = page.text.partition("Each has a heading with an example")[2].partition("Failures")[0]
    for name in ("below-mean", "bound-far-above"):
        for text in (FLAGS[name].title, FLAGS[name].meaning, FLAGS[name].action):
            assert text in flags, text
        assert f"docs/flags.md#{name}" in flags
    assert "2 of 2" in flags
    assert "#flags" in page.links


def test_what_a_bound_protects_is_told_as_the_bound_s_word(folder, check):
    first = first_screen(check(figures(folder, POOR | {"bound_psnr": 18.4})))
    assert (
        first.partition("Is a patient visible?")[0].strip().endswith(f"{GREEN}, as far as examined")
    )
    assert "No. What was examined shows nobody more than any chest X-ray does." in first
    assert "18.4 dB" in first
    assert "A bound for any attacker says so, not an attack that failed." in first
    assert "a single picture may come out a few dB nearer" in first


def test_what_a_posterior_protects_is_told_as_such(folder, check):
    first = first_screen(check(figures(folder, POOR | {"certificate": "nothing"})))
    assert "No. What was examined" in first
    assert "the updates tell it nothing" in first


def test_a_protected_client_does_not_protect_one_whose_attack_failed(folder, check):
    folder.add_failure(1, "c9", "standard", "out of memory")
    first = first_screen(check(figures(folder, POOR | {"bound_psnr": 18.4})))
    assert GREEN not in first.partition("Is a patient visible?")[0]
    assert "Protected: c0 (1 of 2). Not measured: c9 (1 of 2)." in first
    assert "no evidence of safety" in first


def test_the_first_screen_tells_null_certificate_and_what_was_expected(folder, check):
    sure = {"psnr": 52.3, "reidentified": True, "expected_psnr": 51.9, "null_psnr": 12.0,
            "certificate": "proved"}  # fmt: skip
    inverted = POOR | {"negative": True, "null_psnr": 11.0, "certificate": "open"}
    first = first_screen(check(figures(folder, sure, inverted)))
    for text in (
        "The attacker itself expected 51.9 dB.", "1 of 2reconstructions at least 1 dB nearer",
        "1 of 2reconstructions, without the truth; 1 open", "100%", "1 by the negative",
    ):  # fmt: skip
        assert text in first, text


def test_an_inverted_patient_is_told_as_re_identifiable(folder, check):
    page = check(figures(folder, POOR | {"negative": True, "rank": 1574}))
    assert "yet the server could single out patients among candidates" in page.text
    assert "(negative 1)" in page.text


def test_without_truth_the_attacker_s_own_certificates_are_told(folder, check):
    found = Reconstruction(
        images=rand(2, 1, 16, 16), labels=torch.tensor([0, 1]), score=0.06, seconds=1,
        evaluations=5, certificate="proved", expected_psnr=(44.5, 40.5),
    )  # fmt: skip
    folder.add_reconstruction(1, "client-00", "standard", found)
    first = first_screen(check(run_page.render(folder)))
    assert "proved 2 of 2 pictures" in first
    assert "It expected 42.5 dB on average" in first


def test_one_level_alone_is_green():
    rules = re.findall(
        r"\.(?:badge|heat|verdict) ?\.l(\d)[^{]*{ (?:background|border-color): (#\w+)",
        (TEMPLATES["style"].replace(".heat .", ".heat.").replace(".badge.", ".badge .")),
    )
    green = {int(level) for level, colour in rules if _green(colour)}
    assert {int(level) for level, _ in rules} >= {level.value for level in Severity} - {5}
    assert green == {Severity.PROTECTED}


def _green(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    red, green, blue = (int(digits[i : i + 2], 16) for i in (0, 2, 4))
    return green > red + 10 and green > blue + 5


def test_an_account_that_is_proved_wrong_promises_nothing(folder, attacked, check):
    attacked(folder)
    for client in ("client-00", "client-01"):
        folder.add_account(
            round=2, client=client, epsilon=0.5, delta=1e-5, unit="example",
            neighbours="add or remove one", accountant="RDP", rounds=2,
            against="everyone who sees updates or models, the server included",
        )  # fmt: skip
    assert len(valid_accounts(folder)) == 2
    csv_table.create(folder.path / "identification.csv", IDENTIFICATION)
    row = {"round": 1, "client": "client-00", "members": 40, "candidates": 240, "auc": 0.99,
           "tpr_1": 0.9, "epsilon": 0.5, "epsilon_lower": 3.1}  # fmt: skip
    csv_table.append(folder.path / "identification.csv", IDENTIFICATION, [row])
    page = check(run_page.render(folder))
    assert "The privacy account is wrong." in page.text
    assert "proves an ε of at least 3.1, and the account claims 0.5" in page.text
    assert "Do not rely on the privacy account: it is wrong." in page.text
    assert "These figures are wrong." in page.text  # the account itself stays to be read
    assert valid_accounts(folder) == []
