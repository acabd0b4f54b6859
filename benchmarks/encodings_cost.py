"""Cost of phase 1: the encodings of a large batch from the last layer's gradient.

python -m benchmarks encodings_cost --batch 512 --encoding 49152 --classes 1000
"""

from __future__ import annotations

import argparse
import resource
import time

import torch

from adversary.attacks.encgrad.encodings import consistent_encodings
from adversary.problem.head import Head
from benchmarks import common

KIB_PER_MIB = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--encoding", type=int, default=49_152, help="n_h")
    parser.add_argument("--classes", type=int, default=1000)
    arguments = parser.parse_args()
    used = common.threads()
    B, n_h, C = arguments.batch, arguments.encoding, arguments.classes
    if B > C:
        parser.error(f"--batch {B}: labels are distinct, so at most --classes {C}")

    draw = torch.Generator().manual_seed(common.SEED)
    H = torch.rand(B, n_h, generator=draw)
    W = (2 * torch.rand(C, n_h, generator=draw) - 1) / n_h**0.5
    b = torch.zeros(C)
    targets = torch.eye(C)[:B]
    difference = ((H @ W.T + b).softmax(1) - targets) / B
    G_W, G_b = difference.T @ H, difference.sum(0)
    noise = torch.finfo(torch.float32).eps / 12**0.5 * float(G_W.abs().max())

    before_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before = time.perf_counter()
    head = Head(weight=W, bias=b, weight_gradient=G_W, bias_gradient=G_b)
    found = consistent_encodings(head, targets, noise=noise)
    seconds = time.perf_counter() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = float((found.values - H).square().mean())
    common.json_line(
        {
            "batch": B,
            "encoding": n_h,
            "classes": C,
            "threads": used,
            "seconds": seconds,
            "rounds": found.rounds,
            "rank": found.rank,
            "mse": error,
            "relative_mse": error / float(H.var(0).mean()),
            "peak_mib": peak / KIB_PER_MIB,
            "peak_before_mib": before_peak / KIB_PER_MIB,
        }
    )


if __name__ == "__main__":
    main()
