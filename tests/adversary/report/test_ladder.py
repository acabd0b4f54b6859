from __future__ import annotations

from adversary.report.identified import Named
from adversary.report.ladder import Rung, ladder
from adversary.scoring.verdict import Severity


def picture(client, round, level, psnr=15.0):
    return {"client": client, "round": round, "status": "ok", "level": level, "psnr": psnr}


def names(client, round, chance=1.0, auc_chance=1.0):
    row = {"client": client, "round": round, "members": 10}
    return Named(row=row, hits=0, low=0, high=1, chance=chance, auc_chance=auc_chance)


def test_the_highest_rung_of_pictures_and_names_counts():
    rows = [
        picture("a", 1, Severity.VISIBLE, 45.0),
        picture("a", 1, Severity.OPEN),
        picture("a", 2, Severity.VISIBLE, 25.0),
        picture("b", 1, Severity.TRACES),
        picture("b", 2, Severity.PROTECTED),
        picture("c", 1, Severity.OPEN) | {"status": "failed"},
    ]
    found = ladder(rows, [
        names("a", 2, chance=1e-9), names("b", 1, chance=1e-9), names("b", 2, auc_chance=1e-9),
        names("d", None, chance=0.03, auc_chance=0.03),  # beyond chance alone, not among four
    ], most=24)  # fmt: skip
    assert found.rounds == (1, 2, None)
    assert dict(found.clients) == {
        "a": (Rung.COPY, Rung.RECOGNISABLE, Rung.COPY),  # a copy of one round is one of all
        "b": (Rung.NAMED, Rung.MEMBER, Rung.NAMED),
        "d": (None, None, Rung.NOTHING),
    }


def test_of_many_clients_the_worst_and_of_many_rounds_the_last_are_shown():
    rows = [picture(f"c{i}", round, Severity.OPEN) for i in range(5) for round in range(1, 8)]
    found = ladder([*rows, picture("c4", 7, Severity.VISIBLE, 50.0)], [], most=3)
    assert found.rounds == (5, 6, 7)
    assert "c4" in dict(found.clients)
    assert len(found.clients) == 3
