"""Run folders that look like real ones, and pages taken apart."""

import dataclasses
from html.parser import HTMLParser

import pytest
import torch

from adversary.common.results import Reconstruction
from adversary.common.truth import Truth
from adversary.priors.public import Prior
from adversary.report.pictures import draw
from adversary.scoring.image_scores import ImageScore, score_images
from adversary.storage.run_folder import RunFolder

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """The parts of a page that the tests ask about; fails on tags that do not nest."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.images, self.links, self.ids, self.open = [], [], [], [], []
        self.text = ""
        source = path.read_text(encoding="utf-8")
        assert source.startswith("<!DOCTYPE html>")
        self.feed(source)
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


def fill(
    folder,
    *,
    rounds=2,
    clients=("client-00", "client-01"),
    attack="ing",
    noise=0.05,
    bound_psnr=None,
):
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
            scores = score_images(
                found, truth, prior=Prior(rand(2, 1, 16, 16)), candidates=everyone
            )
            if bound_psnr is not None:
                scores = [dataclasses.replace(one, bound_psnr=bound_psnr) for one in scores]
            folder.add_reconstruction(
                number, client, attack, found, scores, draw(found, scores, truth.images)
            )
        folder.add_round(round=number, loss=0.5, auc=0.75, clients=2, clients_failed=0)
    return folder


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "run", title="demo", seed=7, candidates=4)


def take_apart(path):
    page = Page(path)
    assert page.tags.count("script") == 1  # of our own, by its hash
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in page.images)
    inside = [link for link in page.links if link != "leakage.csv"]
    assert all(link.startswith("#") and link[1:] in page.ids for link in inside)
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.count("h1") == 1
    return page


@pytest.fixture(scope="session")
def attacked():
    """Fill a run folder with reconstructions."""
    return fill


@pytest.fixture(scope="session")
def check():
    """Read a page, and make sure that it is well-formed and loads nothing."""
    return take_apart


def evaluate(path, attacks, *, auc=0.9, seed=1, epsilon=None, members="", **about):
    """Write a completed run of which attacks and bounds have said what is given.

    ``attacks`` holds for each attack a list of images: fields of an ImageScore, and of its
    reconstruction ``certificate``, ``client`` and ``told``, its flags.
    """
    about = {"clients": {"client-00": 5, "client-01": 7}, "candidates": 4, "seed": seed} | about
    folder = RunFolder.create(path, **about)
    folder.add_round(round=1, auc=auc, loss=1.0, epsilon=epsilon, delta=epsilon and 1e-5)
    for attack, images in attacks.items():
        for number, fields in enumerate(images):
            own = dict(fields)
            client = own.pop("client", "client-00")
            found = Reconstruction(
                images=rand(1, 1, 8, 8), labels=torch.ones(1), score=0.0, seconds=1.0,
                evaluations=1, certificate=own.pop("certificate", None),
                flags=own.pop("told", ()),
            )  # fmt: skip
            one = ImageScore(
                **{"image": number, "reconstruction": 0, "truth": f"p{number}.png", "rdlv": 0.0,
                   "reidentified": False, **own}
            )  # fmt: skip
            drawn = draw(found, [one], rand(number + 1, 1, 8, 8))
            folder.add_reconstruction(1, client, attack, found, [one], drawn)
    if members:
        (folder.path / "members.csv").write_text(members, encoding="utf-8")
    folder.finish("completed")
    return folder.path


@pytest.fixture(scope="session")
def evaluated():
    """Write a completed run of which attacks and bounds have said what is given."""
    return evaluate
