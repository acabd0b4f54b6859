from adversary.report.groups import by_group, round_client_matrix, worst_of
from adversary.scoring.verdict import Severity


def row(round, client, psnr, status="ok"):
    return {
        "round": round, "client": client, "psnr": psnr, "score": 1.0, "status": status,
        "reidentified": None if psnr is None else psnr > 20,
        "level": Severity.UNKNOWN if psnr is None
        else Severity.VISIBLE if psnr > 20 else Severity.OPEN,
    }  # fmt: skip


ROWS = [
    row(1, "a", 10.0), row(1, "b", 30.0), row(1, "b", 12.0), row(2, "a", 15.0),
    row(2, "c", None, "failed"),
]  # fmt: skip


def test_a_group_is_judged_by_its_most_revealing_picture():
    a, b, c = by_group(ROWS, "client")
    assert (a.key, a.level, a.best["psnr"], a.updates, a.images) == ("a", Severity.OPEN, 15, 2, 2)
    assert (b.level, b.mean_psnr, b.reidentified, b.updates) == (Severity.VISIBLE, 21.0, 0.5, 1)
    assert (c.level, c.images, c.failed, c.mean_psnr) == (Severity.UNKNOWN, 0, 1, None)


def test_an_update_whose_attacks_failed_keeps_its_group_from_being_protected():
    safe = row(1, "a", 10.0) | {"level": Severity.PROTECTED}
    [group] = by_group([safe, row(2, "a", None, "failed")], "client")
    assert (group.level, group.images, group.failed) == (Severity.OPEN, 1, 1)
    [alone] = by_group([safe, row(1, "a", None, "failed")], "client")  # another attack on it
    assert alone.level is Severity.PROTECTED


def test_the_worst_keep_the_order_of_their_keys():
    shown = worst_of(by_group(ROWS, "client"), 2)
    assert ([group.key for group in shown.groups], shown.of) == (["a", "b"], 3)
    assert [group.key for group in worst_of(by_group(ROWS, "round"), 1).groups] == [1]


def test_the_matrix_holds_what_was_attacked_and_no_more():
    clients, rounds = (worst_of(by_group(ROWS, name), 9) for name in ("client", "round"))
    found = round_client_matrix(ROWS, clients, rounds)
    assert (found.clients, found.rounds) == (["a", "b", "c"], [1, 2])
    assert set(found.cells) == {("a", 1), ("b", 1), ("a", 2), ("c", 2)}
    assert found.cells["b", 1].best["psnr"] == 30.0
