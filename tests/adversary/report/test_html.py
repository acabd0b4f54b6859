from html.parser import HTMLParser

import pytest
import torch

from adversary.evaluation import Truth, score
from adversary.priors import Prior
from adversary.reconstruction import Reconstruction
from adversary.report import html
from adversary.report.run_folder import RunFolder

ODD = """<script>alert(1)</script>"><img src=x onerror='alert(1)'>&$x_{"""
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """The parts of a page that the tests ask about; fails on tags that do not nest."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.images, self.links, self.ids, self.open = [], [], [], [], []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append(tag)
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "img":
            self.images.append(attributes)
        if tag == "a":
            self.links.append(attributes["href"])
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def attacked(folder, *, rounds=2, clients=("client-00", "client-01"), attack="ing", noise=0.05):
    """Fill a run folder: one image a client, candidates the images of all clients."""
    everyone = rand(len(clients) + 2, 1, 16, 16)
    for number in range(1, rounds + 1):
        for index, client in enumerate(clients):
            truth = Truth(
                images=everyone[index : index + 1],
                labels=torch.tensor([1]),
                names=(f"p{index}.png",),
            )
            images = truth.images + noise * (rand(1, 1, 16, 16, seed=number) - 0.5)
            found = Reconstruction(
                images=images.clamp(0, 1), labels=truth.labels, score=0.1, seconds=1, evaluations=5
            )
            scores = score(found, truth, prior=Prior(rand(2, 1, 16, 16)), candidates=everyone)
            folder.add_reconstruction(number, client, attack, found, scores, truth.images)
        folder.add_round(round=number, loss=0.5, auc=0.75, clients=2, clients_failed=0)
    return folder


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "run", title="demo", seed=7, candidates=4)


def check(path):
    page = Page(path)
    assert "script" not in page.tags
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in page.images)
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.count("h1") == 1
    return page


def test_a_whole_run(folder):
    attacked(folder)
    folder.add_failure(2, "client-01", "dlg", "ran out of memory")
    folder.note_missing(lpips="no weights here")
    folder.finish("completed")
    folder.update(
        settings={"defence": {"name": "none"}}, versions={"torch": "2.15"}, device="cpu",
        oracles=["labels known"], threat={"labels": "known"},
        data={"name": "Kermany", "attribution": "CC BY 4.0, Kermany", "synthetic": False},
    )  # fmt: skip
    page = check(html.render(folder))
    assert page.tags.count("svg") == 3
    assert len([image for image in page.images if image["alt"].startswith("True")]) == 4
    for text in (
        "The server could see patients.", "From 2 of 2 clients, in 2 of 2 rounds", "100%",
        "by chance 25%", "ran out of memory", "no weights here", "Upper bound", "labels known",
        "defence.name", "CC BY 4.0, Kermany", "torch", "loss 0.500, AUC 0.750", "Round 2",
    ):  # fmt: skip
        assert text in page.text, text
    assert "Synthetic images." not in page.text


def test_rendering_again_gives_the_same_page(folder):
    attacked(folder)
    first = html.render(folder).read_bytes()
    assert html.render(RunFolder.open(folder.path)).read_bytes() == first


def test_everything_that_users_name_is_escaped(tmp_path):
    folder = RunFolder.create(
        tmp_path / "run", title=ODD, settings={ODD: ODD}, threat={ODD: ODD}, oracles=[ODD],
        data={"name": ODD, "attribution": ODD}, versions={ODD: ODD}, device=ODD, revision=ODD,
    )  # fmt: skip
    attacked(folder, clients=(ODD, ODD + "2"), attack=ODD)
    folder.add_failure(1, ODD, ODD, ODD)
    folder.note_missing(lpips=ODD)
    folder.finish("failed", ODD)
    page = check(html.render(folder))
    assert page.text.count(ODD) > 30
    assert any(ODD in image["alt"] for image in page.images)


def test_a_run_without_attacks_yet(folder):
    page = check(html.render(folder))
    assert "No attack has finished yet." in page.text
    assert "still going on" in page.text


def test_only_failures(folder):
    folder.add_failure(1, "client-00", "dlg", "shape mismatch")
    page = check(html.render(folder))
    assert "No attack has finished yet." in page.text
    assert "shape mismatch" in page.text
    assert "Every attack failed." in page.text


def test_without_truth_only_the_attackers_own_score_is_shown(folder):
    found = Reconstruction(
        images=rand(2, 1, 16, 16), labels=torch.tensor([0, 1]), score=0.0625, seconds=1,
        evaluations=5,
    )  # fmt: skip
    folder.add_reconstruction(1, "client-00", "ing", found)
    page = check(html.render(folder))
    assert "this run has no true images" in page.text
    assert "0.0625" in page.text
    assert "no truth in this run" in page.text
    alts = [image["alt"] for image in page.images]
    assert len(alts) == 2
    assert not [alt for alt in alts if alt.startswith(("True", "Absolute"))]
    assert "The server could" not in page.text


def test_a_run_where_nothing_leaks(tmp_path):
    folder = RunFolder.create(tmp_path / "run", data={"synthetic": True})
    truth = Truth(images=rand(1, 1, 16, 16), labels=torch.tensor([1]), names=("p",))
    found = Reconstruction(
        images=torch.full((1, 1, 16, 16), 0.5), labels=truth.labels, score=1.0, seconds=1,
        evaluations=5,
    )  # fmt: skip
    scores = score(found, truth, prior=Prior(truth.images), candidates=rand(5, 1, 16, 16, seed=1))
    folder.add_reconstruction(1, "client-00", "ing", found, scores, truth.images)
    page = check(html.render(folder))
    assert "saw no more than any chest X-ray shows" in page.text
    assert "Synthetic images." in page.text


def test_missing_and_damaged_pictures_do_not_stop_the_report(folder):
    attacked(folder, rounds=1)
    folder.images(1, "client-00", "ing").joinpath("truth-00.png").unlink()
    folder.images(1, "client-01", "ing").joinpath("reconstruction-00.png").write_bytes(b"\x89PNG")
    assert "no picture" in check(html.render(folder)).text


def test_the_worst_grids_are_embedded_and_the_others_named(folder, monkeypatch):
    monkeypatch.setattr(html, "MAX_GRIDS", 1)
    attacked(folder, rounds=2, clients=("client-00",), noise=0.4)
    page = check(html.render(folder))
    best = folder.leakage()["psnr"].idxmax() + 1
    assert len([image for image in page.images if image["alt"].startswith("True")]) == 1
    assert f"images/round-00{3 - best}/client-00/ing/" in page.text


def test_an_exact_copy_has_no_finite_psnr(folder):
    attacked(folder, rounds=1, noise=0.0)
    assert "exact" in check(html.render(folder)).text


def test_privacy_accounts_are_shown_as_they_stand_last(folder):
    attacked(folder)
    about = {"delta": 1e-5, "neighbours": "add or remove one", "unit": "example",
             "accountant": "RDP (opacus)", "against": ODD}  # fmt: skip
    for number, client, epsilon in ((1, "b", 1.5), (1, "a", 0.25), (2, "b", 2.75)):
        folder.add_account(round=number, client=client, rounds=number, epsilon=epsilon, **about)
    page = check(html.render(folder))
    assert "privacy" in page.ids
    section = page.text.partition("Protects against")[2].partition("Threat model")[0]
    assert section.index("0.25") < section.index("2.75")
    assert "1.50" not in section
    assert section.count("add or remove one") == section.count(ODD) == 2


def test_without_accounts_there_is_no_such_section(folder):
    attacked(folder)
    page = check(html.render(folder))
    assert "privacy" not in page.ids
    assert "#privacy" not in page.links


def test_updates_that_no_image_went_into_are_named(folder):
    attacked(folder, rounds=1)
    folder.note_without_images(1, "client-07")
    assert "the update of client-07 in round 1: its random" in check(html.render(folder)).text
