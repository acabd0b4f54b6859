"""The authors' own code on our images, weights and labels, where a clone of it is given."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import common
from benchmarks.encgradinversion.errors import PaperError

SCRIPT = "main_gradient_attack.py"
TIMED = "Running time of our method:"
IMAGES, INDICES, FOUND, WEIGHTS = "given.npz", "index_list_cifar.txt", "found.npy", "given.pt"

# Their data set is replaced by our images, their initial weights by ours, in a temporary copy.
_DATASET = f"""
class _Given:
    def __init__(self, *args, **kwargs):
        self.images = np.load('{IMAGES}')['images']
    def __len__(self):
        return len(self.images)
    def __getitem__(self, index):
        return Image.fromarray(self.images[index]), index
datasets.CIFAR100 = _Given
"""
_WEIGHTS = f"""
net.load_state_dict(dict(zip(net.state_dict(), torch.load('{WEIGHTS}').values(), strict=True)))
"""
_SAVED = f"""
np.save('{FOUND}', torch.cat(invert_images).detach().cpu().numpy())
sys.exit()
"""
_CLASSES = r"^    n_classes = 100$"
_EDITS: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"^(lpips = ).*$", r"\1lambda *images: torch.zeros(())"),  # it would download weights
    (r"^from torchmetrics\.image\.lpip import .*$", "import sys"),
    (r"^dataset = 'ImageNet'$", "dataset = 'CIFAR100'" + _DATASET),
    (r"^filenames = os\.listdir.*$", "filenames = []"),
    (r"^criterion = .*$", lambda found: _WEIGHTS + found[0]),
    (r"^draw_figures\(history\)$", _SAVED),
)


def check(clone: Path) -> None:
    """Refuse a folder that is no clone of theirs, or one of another version.

    Raises
    ------
    PaperError
        As said.
    """
    if not (clone / SCRIPT).is_file():
        raise PaperError(f"--peer {clone}: no {SCRIPT} there; must be a clone of the authors' code")
    patched((clone / SCRIPT).read_text(encoding="utf-8"), 100)


def patched(script: str, outputs: int) -> str:
    """Return their script with our images, labels, weights and classes, ended after phase 2.

    Its phase 3 takes no step for their own method.

    Raises
    ------
    PaperError
        If it is another version.
    """
    for pattern, replacement in (*_EDITS, (_CLASSES, f"    n_classes = {outputs}")):
        script, count = re.subn(pattern, replacement, script, flags=re.MULTILINE)
        if not count:
            raise PaperError(f"--peer: {SCRIPT} is not the version known here: no {pattern}")
    return script


def run(clone: Path, truths: Tensor, model: nn.Module, timeout: float) -> dict[str, Any]:
    """Return their own seconds and our scores of their images.

    Parameters
    ----------
    clone : Path
        Of their repository.
    truths : Tensor
        (B, 3, 32, 32).
    model : nn.Module
        LeNet.
    timeout : float
        Seconds.

    Raises
    ------
    PaperError
        If their script does not run to its end.
    """
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / "peer"
        copytree(clone, there, ignore=ignore_patterns(".git", "assets"))
        pixels = (truths.permute(0, 2, 3, 1) * 255).round().byte().numpy()
        np.savez(there / IMAGES, images=pixels)
        np.savetxt(there / INDICES, np.arange(len(truths))[None].repeat(2, 0), fmt="%d")
        torch.save(model.state_dict(), there / WEIGHTS)
        script = there / SCRIPT
        outputs = list(model.parameters())[-1].shape[0]
        text = patched(script.read_text(encoding="utf-8"), outputs)
        script.write_text(text, encoding="utf-8")
        seconds = _seconds(there, len(truths), clone, timeout)
        found = torch.from_numpy(np.load(there / FOUND))
    return common.scores(found, truths) | {"seconds": seconds}


def _seconds(there: Path, batch: int, clone: Path, timeout: float) -> float:
    command = [sys.executable, SCRIPT, "--attack", "Ours", "--model", "LeNet"]
    command += ["--n_images", str(batch), "--method", "2"]
    try:
        ran = subprocess.run(
            command, cwd=there, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise PaperError(f"--peer {clone}: took more than {timeout:.0f} s") from None
    if ran.returncode or TIMED not in ran.stdout:
        said = (ran.stderr.strip().splitlines() or ["it printed no time"])[-1]
        raise PaperError(f"--peer {clone}: {SCRIPT} failed: {said}")
    return float(ran.stdout.split(TIMED)[1].split()[0])
