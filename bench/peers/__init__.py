"""The same work by other programs: single-spin-flip dynamics of 128x128 periodic lattices, own (T, H) each, one core.

One file per peer, each with classes of this interface, as fast as the peer's public functions allow:

    Peer(temperature, field, seed)    float64 [n] each; n lattices, started along the sign of their field where possible
    peer.sweeps(num_sweeps) -> int    every spin of every lattice updated num_sweeps times; the number of spin updates
    peer.spins() -> int8 [n, 128, 128]
    Peer.dynamics, Peer.has_field     what it does, in a few words; whether it knows a field at all
    Peer.sweeps_at_least              calls with fewer sweeps would mostly measure the peer's own set-up

``python -m bench.peers`` checks every peer's law, then times them all in turn and prints ratios.
"""

import numpy as np

SIDE = 128

# label: (module in this folder, class in it)
PEERS = {
    "hessfast": ("with_hessfast", "Peer"),
    "mcising": ("with_mcising", "Peer"),
    "byte loop, tuned": ("with_bytes", "Tuned"),
    "byte loop, plain": ("with_bytes", "Plain"),
    "torch, rolled colours": ("with_torch", "Rolled"),
    "torch, convolution": ("with_torch", "Convolution"),
    "dwave-samplers": ("with_dwave", "Peer"),
    "peapods": ("with_peapods", "Peer"),
}


def aligned(field) -> np.ndarray:
    """int8 [n, 128, 128]: every lattice up where its field is >= 0, else down; no domain walls to wait for."""
    sign = np.where(np.asarray(field) >= 0, 1, -1).astype(np.int8)
    return np.ascontiguousarray(np.broadcast_to(sign[:, None, None], (len(sign), SIDE, SIDE)))
