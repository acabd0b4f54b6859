import torch

from adversary.common.results import Frame, IterationRecord, Reconstruction
from adversary.report import gallery, pictures
from adversary.report.leakage_rows import with_levels


def row(client, image, psnr, attack="ing", status="ok"):
    level = 5 if psnr > 30 else 2
    return {"round": 1, "client": client, "attack": attack, "image": image, "psnr": psnr,
            "score": 0.1, "level": level, "status": status}  # fmt: skip


def test_the_worst_of_each_update_come_before_the_second_worst_of_any(monkeypatch):
    rows = [row("a", i, 50.0 - i) for i in range(5)] + [row("b", 0, 12.0), row("c", 0, 99.0)]
    rows.append(row("d", 0, 80.0, status="failed"))
    chosen = gallery.select_cards(rows)
    assert [one["psnr"] for one in chosen] == [99.0, 50.0, 49.0, 48.0, 47.0, 46.0, 12.0]
    monkeypatch.setattr(gallery, "MAX_CARDS", 4)
    assert [(one["client"], one["image"]) for one in gallery.select_cards(rows)] == [
        ("c", 0), ("a", 0), ("a", 1), ("b", 0)
    ]  # fmt: skip


def test_a_strip_shows_the_trial_that_the_attacker_chose(folder):
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    black = torch.zeros(2, 1, 8, 8)
    found = Reconstruction(
        images=images, labels=torch.tensor([0, 1]), score=0.1, seconds=1, evaluations=20,
        history=[IterationRecord(0, 0, 3.0, 0.0), IterationRecord(0, 9, 2.0, 1.0),
                 IterationRecord(1, 0, 3.0, 1.0),
                 IterationRecord(1, 7, 0.1, 2.0)],
        frames=[Frame(0, 0, 3.0, black), Frame(0, 9, 2.0, black), Frame(1, 0, 3.0, black),
                Frame(1, 7, 0.1, images)],
    )  # fmt: skip
    folder.add_reconstruction(1, "a", "ing", found, drawn=pictures.draw(found))
    rows = gallery.select_cards(with_levels(folder.leakage()))
    strips = gallery.strips(folder, rows)
    assert [strip.steps for strip in strips] == [7, 7]
    assert (folder.path / strips[0].place / "trial-01-image-00.png").exists()
    (folder.process(1, "a", "ing") / "trial-01-image-01.png").unlink()
    assert len(gallery.strips(folder, rows)) == 1
    folder.history(1, "a", "ing").write_text("damaged")
    assert gallery.strips(folder, rows) == []
    assert gallery.history(folder, rows[0]).empty
