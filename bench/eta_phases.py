"""What noise in the loop does to the phases of a slice: how often the digit at a point is decided by the noise.

    python -m bench.eta_phases        # four minutes; writes bench/results/reproduce/eta-phases.json

Slices of the shipped model with two seeds of noise: of neighbouring points, of both seeds and of the slice without it
the share whose digits differ.
"""

import json
import tempfile

import numpy as np
import torch

from bench.report import RESULTS, provenance
from hessfast.posterior import Grid
from hessfast.slices import SlicePlan, digit_generator, generate, random_anchors
from hessfast.slices.digits import digit_classifier

SIDE, NUM_STEPS, ANCHORS, ETAS = 48, 20, (0, 1), (0.1, 0.3, 1.0)


def digits(anchors: int, eta: float, seed: int) -> np.ndarray:
    grid = Grid((0, 0), (1, 1), (SIDE, SIDE))
    plan = SlicePlan(random_anchors((1, 8, 8), seed=anchors), grid, num_steps=NUM_STEPS, eta=eta, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        features = generate(plan, digit_generator(), folder, features="digits")["features"][:]
    return digit_classifier().logits(torch.tensor(features)).argmax(dim=1).numpy().reshape(SIDE, SIDE)


def neighbours_differ(found: np.ndarray) -> float:
    return float(np.mean([(np.diff(found, axis=axis) != 0).mean() for axis in (0, 1)]))


def row(anchors: int, eta: float, still: np.ndarray) -> dict[str, float]:
    one, other = (digits(anchors, eta, seed) for seed in (1, 2))
    differ = {"neighbours": neighbours_differ(one), "seeds": float((one != other).mean())}
    return {"anchors": anchors, "eta": eta, **differ, "from eta 0": float((one != still).mean())}


def main() -> None:
    rows = []
    for anchors in ANCHORS:
        still = digits(anchors, 0.0, 0)
        rows.append({"anchors": anchors, "eta": 0.0, "neighbours": neighbours_differ(still)})
        rows += [row(anchors, eta, still) for eta in ETAS]
        print(*rows[-1 - len(ETAS) :], sep="\n", flush=True)
    result = {"side": SIDE, "num_steps": NUM_STEPS, **provenance(), "rows": rows}
    (RESULTS / "reproduce" / "eta-phases.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
