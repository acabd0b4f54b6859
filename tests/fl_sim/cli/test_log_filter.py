import pytest

from fl_sim.cli.log_filter import LogFilter, LogLine
from fl_sim.progress import parse_report, report_progress

RED, YELLOW, GREEN, PLAIN = "\x1b[91m", "\x1b[93m", "\x1b[92m", "\x1b[0m"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("fl-sim: round 1/3 done", LogLine("progress", "round 1/3 done")),
        (f"{GREEN}INFO {PLAIN}:      fl-sim: round 1/3", LogLine("progress", "round 1/3")),
        (f"{GREEN}INFO {PLAIN}:      Starting Flower Simulation", None),
        (f"{YELLOW}WARNING {PLAIN}:   few clients", LogLine("warning", "few clients")),
        (f"{YELLOW}WARNING {PLAIN}:   Since flwr 1.32, default simulated SuperNodes changed", None),
        (f"{RED}ERROR {PLAIN}:     An exception was raised when processing a message by X", None),
        (f"{RED}ERROR {PLAIN}:     \x1b[36mray::ClientAppActor.run()\x1b[39m (pid=1)", None),
        (f"{RED}ERROR {PLAIN}:     no space left", LogLine("warning", "no space left")),
        (
            f"\x1b[36m(ClientAppActor pid=7){PLAIN} {YELLOW}WARNING {PLAIN}:   cold",
            LogLine("warning", "cold"),
        ),
        (
            "Exception ClientAppException occurred. Message: data.path = 'x': no such folder",
            LogLine("warning", "a client failed: data.path = 'x': no such folder"),
        ),
        (
            "ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing.",
            LogLine("warning", "a client's process died (ActorDiedError)"),
        ),
        (f"{RED}ERROR {PLAIN}:     The actor died unexpectedly before finishing this task.", None),
        ('  File "/x/client.py", line 10, in train', None),
        ("printed by someone", None),
        ("", None),
    ],
)
def test_only_what_matters_is_told(line, told):
    assert LogFilter()(line) == told


def test_a_failure_is_told_once_but_progress_always():
    narrate = LogFilter()
    failure = "Exception ClientAppException occurred. Message: broken"
    assert narrate(failure) is not None
    assert narrate(failure) is None
    assert narrate("fl-sim: same") == narrate("fl-sim: same") == LogLine("progress", "same")


def test_what_is_said_is_heard(capsys):
    report_progress("round 2/3: loss 0.5")
    assert parse_report(capsys.readouterr().out.rstrip("\n")) == "round 2/3: loss 0.5"
    assert parse_report("round 2/3") is None
