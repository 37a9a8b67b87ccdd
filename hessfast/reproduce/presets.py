"""How much of everything a run spends, and how the paper's network is trained."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """How much of everything; a network's size and steps decide the time.

    Attributes:
        num: samples; 0: as many as the model's.
        held_out: samples, or bundles, on which posteriors are compared with the exact one.
        network: name of one of NETWORKS.
        network_steps, batch_size: of its training.
        vae_steps: of the autoencoder.
        potential_steps: of the paper's log Z.
        splits: of ours, for its standard error.
    """

    num: int
    held_out: int
    network: str
    network_steps: int
    batch_size: int
    vae_steps: int
    potential_steps: int
    splits: int


@dataclass(frozen=True)
class Network:
    """How the paper's posterior, a `U2NetPosterior` of that size, and log Z are learned.

    Attributes:
        pixels: a side of the images that networks see; lattices are averaged over blocks.
        learning_rate: of the posterior.
        published: bumps as wide, and the potential, as published; else narrower bumps for Ising and a softplus network.
        training: fields of the preset that go with it.
    """

    pixels: int
    learning_rate: float
    published: bool
    training: dict[str, Any]


PRESETS = {
    "quick": Preset(
        num=20_000,
        held_out=40,
        network="tiny",
        network_steps=240,
        batch_size=64,
        vae_steps=300,
        potential_steps=1500,
        splits=4,
    ),
    "paper": Preset(
        num=0,
        held_out=100,
        network="tiny",
        network_steps=3000,
        batch_size=64,
        vae_steps=3000,
        potential_steps=4000,
        splits=2,
    ),
}
NETWORKS = {
    "tiny": Network(pixels=32, learning_rate=1e-3, published=False, training={}),
    "small": Network(pixels=32, learning_rate=1e-3, published=False, training={}),
    "full": Network(
        pixels=128, learning_rate=1e-5, published=True, training={"network_steps": 20_000, "batch_size": 2048}
    ),
}
