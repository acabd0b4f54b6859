"""EncGradInversion's time and quality, beside its authors' code where a clone is given.

Run as ``python -m benchmarks encgrad_time --data cifar.npz --batch 32 --peer DIR``. Both invert
the encodings (their script's phase 3 takes no step by default, so ours is left out too unless
``--refine`` says otherwise) of the same images, weights and labels with as many threads.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adversary.attacks import create
from benchmarks import common

SCRIPT = "main_gradient_attack.py"
TIMED = "Running time of our method:"

# Their data sets are replaced by our images, their initial weights by ours; both are found where
# the script names them, in a temporary copy.
DATASET = """
class _Ours:
    def __init__(self, *args, **kwargs):
        self.images = np.load('ours.npz')['images']
    def __len__(self):
        return len(self.images)
    def __getitem__(self, index):
        return Image.fromarray(self.images[index]), index
datasets.CIFAR100 = _Ours
"""
WEIGHTS = """
net.load_state_dict(dict(zip(net.state_dict(), torch.load('ours.pt').values(), strict=True)))
"""
SAVED = """
np.save('found.npy', torch.cat(invert_images).detach().cpu().numpy())
sys.exit()
"""


def ours(truths: Tensor, model: nn.Module, refine: int, repeats: int) -> dict[str, Any]:
    """Return our median seconds, from the observation to the images, and our scores."""
    posed = common.problem(model, truths)
    attack = create("encgrad", {"refine": str(refine)})
    seconds = []
    for _ in range(repeats):
        before = time.perf_counter()
        found = attack.run(posed, seed=common.SEED)
        seconds.append(time.perf_counter() - before)
    values = common.scores(found.images, truths)
    return {
        "ours_seconds": statistics.median(seconds),
        "ours_ssim": values["ssim"],
        "ours_psnr": values["psnr"],
    }


def peer(clone: Path, truths: Tensor, model: nn.Module, timeout: float) -> dict[str, Any]:
    """Run the authors' script on a patched copy; return its own seconds, and its scores."""
    batch = len(truths)
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / "peer"
        shutil.copytree(clone, there, ignore=shutil.ignore_patterns(".git", "assets"))
        pixels = (truths.permute(0, 2, 3, 1) * 255).round().byte().numpy()
        np.savez(there / "ours.npz", images=pixels)
        np.savetxt(there / "index_list_cifar.txt", np.arange(batch)[None].repeat(2, 0), fmt="%d")
        torch.save(model.state_dict(), there / "ours.pt")
        script = there / SCRIPT
        script.write_text(_patched(script.read_text()))
        command = [sys.executable, SCRIPT, "--attack", "Ours", "--model", "LeNet"]
        command += ["--n_images", str(batch), "--method", "2"]
        ran = subprocess.run(
            command, cwd=there, capture_output=True, text=True, timeout=timeout, check=False
        )
        if ran.returncode or TIMED not in ran.stdout:
            raise SystemExit(f"--peer {clone}: {SCRIPT} failed\n{ran.stderr[-2000:]}")
        seconds = float(ran.stdout.split(TIMED)[1].split()[0])
        found = torch.from_numpy(np.load(there / "found.npy"))
    values = common.scores(found, truths)
    return {"peer_seconds": seconds, "peer_ssim": values["ssim"], "peer_psnr": values["psnr"]}


def _patched(script: str) -> str:
    """Return the authors' script with our images, labels and weights, ended after phase 2.

    Its LPIPS, which downloads weights, is a stand-in outside the time's interest.
    """
    edits = [
        (r"^(lpips = ).*$", r"\1lambda *images: torch.zeros(())"),
        (r"^from torchmetrics\.image\.lpip import .*$", "import sys"),
        (r"^dataset = 'ImageNet'$", "dataset = 'CIFAR100'" + DATASET),
        (r"^filenames = os\.listdir.*$", "filenames = []"),
        (r"^criterion = .*$", lambda found: WEIGHTS + found[0]),
        (r"^draw_figures\(history\)$", SAVED),
    ]
    for pattern, replacement in edits:
        script, count = re.subn(pattern, replacement, script, flags=re.MULTILINE)
        if not count:
            raise SystemExit(f"--peer: {SCRIPT} is not the version known here: no {pattern}")
    return script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="npz: images (N, 32, 32, 3)")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--refine", type=int, default=0, help="steps of our phase 3")
    parser.add_argument("--repeats", type=int, default=3, help="our runs; the median counts")
    parser.add_argument("--peer", type=Path, help="clone of the authors' repository")
    parser.add_argument("--peer-timeout", type=float, default=3600, help="seconds")
    arguments = parser.parse_args()
    if arguments.peer is not None and not (arguments.peer / SCRIPT).is_file():
        parser.error(f"--peer {arguments.peer}: no {SCRIPT} there")
    common.threads()

    truths = common.images(arguments.data, arguments.batch)
    model = common.victim("lenet", truths)
    result: dict[str, Any] = {"batch": arguments.batch}
    result |= ours(truths, model, arguments.refine, arguments.repeats)
    theirs = {"peer_seconds": None, "peer_ssim": None, "peer_psnr": None}
    speedup = None
    if arguments.peer is not None:
        theirs = peer(arguments.peer.resolve(), truths, model, arguments.peer_timeout)
        speedup = theirs["peer_seconds"] / result["ours_seconds"]
    common.json_line(result | theirs | {"speedup": speedup})


if __name__ == "__main__":
    main()
