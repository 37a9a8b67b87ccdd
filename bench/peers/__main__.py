"""Times hessfast and its peers in turn, one process, one core; prints flips/ns and how many times faster hessfast is.

    python -m bench.peers [--rounds 9] [--record] [--only hessfast --only mcising]

Lattices 128x128, each with its own (T, H) uniform on [1, 5] x [-2, 2]; for a peer without a field H = 0 on both sides.
Every peer first passes the checks in law.py; one that fails gets no speed. Times are CPU times of the process: other
jobs count less, and threads that a peer might start count too. Medians over rounds, also of the ratios within a round.
"""

import argparse
import gc
import importlib
import os
import statistics
import time

import numpy as np

from bench import report
from bench.peers import PEERS, law

# numba, torch and the Rust peers read these when they are imported, which is later.
for _name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[_name] = "1"

NUM_LATTICES = 16
SHORTEST_CALL = 0.3  # CPU seconds: a call has as many sweeps as that needs
OURS, OURS_WITHOUT_FIELD = "hessfast", "hessfast, H = 0"
ENTRIES = {OURS: PEERS[OURS], OURS_WITHOUT_FIELD: PEERS[OURS], **PEERS}


def prepare(label: str, module: str, name: str):
    """The peer ready to be timed, or None; and what it does, or why it is missing."""
    try:
        peer_class = getattr(importlib.import_module(f"bench.peers.{module}"), name)
    except ModuleNotFoundError as error:
        if label in (OURS, OURS_WITHOUT_FIELD):
            raise
        return None, f"not installed (no module {error.name})"
    found = law.violations(peer_class)
    if found:
        return None, "WRONG LAW: " + " ".join(found)
    generator = np.random.default_rng(1)
    temperature, field = generator.uniform(1, 5, NUM_LATTICES), generator.uniform(-2, 2, NUM_LATTICES)
    if label == OURS_WITHOUT_FIELD or not peer_class.has_field:
        field = np.zeros(NUM_LATTICES)
    return peer_class(temperature, field, seed=2), peer_class.dynamics


def cpu_rate(peer, num_sweeps: int) -> tuple[float, float]:
    """Spin updates per ns, and the CPU seconds it took to know."""
    start = time.process_time()
    updates = peer.sweeps(num_sweeps)
    seconds = time.process_time() - start
    return updates / seconds / 1e9, seconds


def sweeps_per_call(peer) -> int:
    """As many sweeps as make a call long enough to be timed; the lattices equilibrate on the way."""
    num_sweeps = peer.sweeps_at_least
    while (seconds := cpu_rate(peer, num_sweeps)[1]) < SHORTEST_CALL / 2:
        num_sweeps *= 2
    return max(peer.sweeps_at_least, round(num_sweeps * SHORTEST_CALL / seconds))


def measure(peers: dict, rounds: int) -> dict[str, list[float]]:
    """Flips per ns of every peer in every round; within a round the peers take turns."""
    calls = {label: sweeps_per_call(peer) for label, peer in peers.items()}
    rates: dict[str, list[float]] = {label: [] for label in peers}
    gc.disable()
    for _ in range(rounds):
        for label, peer in peers.items():
            rates[label].append(cpu_rate(peer, calls[label])[0])
    gc.enable()
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description="hessfast beside its peers on one core.")
    parser.add_argument("--rounds", type=int, default=9, help="repeats of every peer; at least 7 for a figure to quote")
    parser.add_argument("--record", action="store_true", help="write the rows to bench/results/<machine>.json")
    parser.add_argument("--only", action="append", choices=ENTRIES, metavar="LABEL", help="one row; may be repeated")
    arguments = parser.parse_args()

    prepared = {label: prepare(label, *ENTRIES[label]) for label in arguments.only or ENTRIES}
    rates = measure({label: peer for label, (peer, _) in prepared.items() if peer is not None}, arguments.rounds)

    print(f"flips/ns on one core of {report.machine()}: {NUM_LATTICES} lattices 128x128, {arguments.rounds} rounds")
    print(f"{'':24} {'median':>8} {'best':>8} {'hessfast is':>12}   dynamics")
    rows = {}
    for label, (peer, words) in prepared.items():
        if peer is None:
            print(f"{label:24} {words}")
            continue
        row = {"unit": "flips/ns/core", "rate": statistics.median(rates[label]), "best": max(rates[label])}
        ours = OURS if peer.has_field else OURS_WITHOUT_FIELD
        if ours in rates and label not in (OURS, OURS_WITHOUT_FIELD):
            row["hessfast_ratio"] = statistics.median(a / b for a, b in zip(rates[ours], rates[label], strict=True))
        rows[f"peers: {label}"] = {**row, "rounds": arguments.rounds, "threads": 1, "dynamics": words}
        ratio = f"{row['hessfast_ratio']:10.1f} x" if "hessfast_ratio" in row else ""
        print(f"{label:24} {row['rate']:8.4f} {row['best']:8.4f} {ratio:>12}   {words}")
    if arguments.record:
        print(f"written to {report.store(rows).relative_to(report.ROOT)}")


if __name__ == "__main__":
    main()
