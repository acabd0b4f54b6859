from __future__ import annotations

import pytest
import torch
from PIL import Image

from fl_sim.adversary_setup import make_attacks
from fl_sim.federation import build_federation


def test_the_parts_fit_together(quick):
    run = build_federation(quick(), 3)
    assert sum(len(part) for part in run.parts) == len(run.splits.private)
    assert run.model()(run.parts[0].tensor([0, 1])).shape == (2, 2)
    assert run.prior().images.shape == (len(run.splits.public), 1, 16, 16)
    assert len(run.candidates()) == len(set(run.splits.private.patients))
    assert run.settings.clients == 3
    assert [a.name for a in run.adversary().attacks] == ["dlg"]


def test_the_same_settings_give_the_same_model(quick):
    first, second = (build_federation(quick(), n).model().state_dict() for n in (2, 3))
    other = build_federation(quick(seed=2), 3).model().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_parts_are_kept(quick):
    assert build_federation(quick(), 3) is build_federation(quick(), 3)


def test_bce_on_two_classes_has_one_output(quick):
    assert build_federation(quick(model__loss="bce"), 3).model().head.out_features == 1


def test_the_server_evaluates_on_test_images_and_else_on_public_ones(quick):
    with_test = build_federation(quick(), 3)
    assert (with_test.evaluation_split, with_test.evaluation_set()) == (
        "test",
        with_test.splits.test,
    )
    without = build_federation(quick(data__test_fraction=0.0), 3)
    assert (without.evaluation_split, without.evaluation_set()) == ("public", without.splits.public)


def test_options_reach_their_attack(quick):
    made = make_attacks(
        quick(
            adversary__attack="dlg, ing",
            adversary__options="ing.iterations=7, dlg.iterations=9",
            adversary__restarts=2,
        )
    )
    assert [(a.name, a.iterations, a.restarts) for a in made] == [("dlg", 9, 2), ("ing", 7, 2)]


def test_a_start_image_is_read_and_resized(quick, tmp_path):
    Image.new("L", (40, 30), 51).save(tmp_path / "start.png")
    [made] = make_attacks(
        quick(adversary__start="image", adversary__start_image=str(tmp_path / "start.png"))
    )
    assert made.start_image.shape == (1, 16, 16)
    torch.testing.assert_close(made.start_image, torch.full((1, 16, 16), 0.2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"local__batch_size": 99}, r"^local.batch-size = 99: client-\d\d of 3 has only \d+ im"),
        ({"data__num_images": 24, "clients": 60}, r"client"),
        (
            {"model__name": "densenet121", "data__image_size": 8},
            "^data.image-size = 8: densenet121",
        ),
        ({"defence__options": "scale=1"}, "^defence.scale: unknown option; none takes no options"),
        ({"device": "cuda:99"}, "^device = 'cuda:99': there are"),
        ({"device": "tpu"}, "^device = 'tpu': must be auto, cpu"),
        ({"data__name": "folder", "data__path": "/nowhere"}, "/nowhere"),
        ({"adversary__options": "ing.tv=1"}, r"^adversary.ing.tv: must be adversary.ATTACK.OPTION"),
        (
            {"adversary__options": "iterations=1"},
            "^adversary.options = .*'iterations' is no",
        ),
        ({"adversary__options": "dlg"}, "^adversary.options = 'dlg': 'dlg' is not KEY=VALUE"),
        (
            {"adversary__options": "dlg.itrations=1"},
            "^adversary.dlg.itrations: unk.*iterations",
        ),
        (
            {"adversary__options": "dlg.iterations=few"},
            "^adversary.dlg.iterations = 'few'",
        ),
        ({"adversary__start_image": "/nowhere.png"}, "^adversary.start-image = '/nowhere.png': No"),
        (
            {"adversary__options": "dlg.iterations=-3"},
            "^adversary.dlg.iterations = -3: mu",
        ),
        ({"adversary__start": "image"}, "^adversary.start = 'image': .*start-image is empty$"),
    ],
)
def test_what_does_not_fit_is_one_line(changes, message, quick):
    def build():
        settings = quick(**changes)
        build_federation(settings, settings.clients).model()
        make_attacks(settings)

    with pytest.raises(ValueError, match=message) as error:
        build()
    assert "\n" not in str(error.value)


def test_a_start_image_that_is_none(quick, tmp_path):
    path = tmp_path / "text.png"
    path.write_text("no picture")
    with pytest.raises(ValueError, match=r"^adversary.start-image: .*text.png"):
        make_attacks(quick(adversary__start="image", adversary__start_image=str(path)))


def test_who_is_attacked_follows_from_the_seed(quick):
    names = [f"client-{i:02d}" for i in range(6)]
    run = build_federation(quick(clients=6, adversary__every=3, adversary__clients=2), 6)
    chosen = {r: run.clients_to_attack(r, names) for r in range(1, 8)}
    assert [r for r, who in chosen.items() if who] == [1, 4, 7]
    assert all(len(chosen[r]) == 2 and set(chosen[r]) <= set(names) for r in (1, 4, 7))
    assert len({tuple(chosen[r]) for r in (1, 4, 7)}) > 1
    again = build_federation(
        quick(clients=6, adversary__every=3, adversary__clients=2, rounds=9), 6
    )
    assert again.clients_to_attack(4, names) == chosen[4]


def test_the_smallest_are_attacked_where_that_is_asked_for(quick):
    chosen = {"adversary__clients": 2, "adversary__choice": "smallest", "data__sizes": "4, 1, 3, 2"}
    run = build_federation(quick(clients=4, **chosen), 4)
    names = [f"client-{i:02d}" for i in range(4)]
    for round in range(1, 4):
        assert run.clients_to_attack(round, names) == ["client-01", "client-03"]
    assert run.clients_to_attack(1, names[:1]) == ["client-00"]


def test_every_client_is_attacked_by_default(quick):
    names = ["client-00", "client-01", "client-02"]
    run = build_federation(quick(), 3)
    assert [run.clients_to_attack(r, names) for r in (1, 2)] == [names, names]
    many = build_federation(quick(adversary__clients=9), 3)
    assert many.clients_to_attack(1, names) == names


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({}, None),
        ({"adversary__seconds": 5.0}, 5),
        ({"adversary__round_seconds": 12.0}, 4),  # of three clients
        ({"adversary__round_seconds": 12.0, "adversary__clients": 2}, 6),
        ({"adversary__round_seconds": 12.0, "strategy__fraction": 0.4}, 12),
        ({"adversary__round_seconds": 12.0, "adversary__attack": "dlg,ing"}, 2),
        ({"adversary__round_seconds": 12.0, "adversary__seconds": 3.0}, 3),
        ({"adversary__round_seconds": 12.0, "defence__name": "secure-aggregation"}, 6),
    ],
)
def test_the_attacks_of_a_round_share_its_time(quick, changes, limit):
    assert build_federation(quick(**changes), 3).adversary().limits.seconds == limit
