"""How much an assessment spends, by name: noise variances, samples, networks and their steps."""

from dataclasses import dataclass, fields, replace

from hessfast import _checks

TAU_PAPER = (1e-4, 6400.0)  # sqrt(tau) from .01 to 80
_LEAST = {"num_tau": 2, "num_samples": 2, "num_generated": 2}  # of the others, 1


@dataclass(frozen=True)
class Preset:
    """How much an assessment spends.

    Attributes:
        num_tau: noise variances of a curve.
        tau_range: the least and the greatest of them; the paper's, sqrt(tau) from .01 to 80, if not narrowed.
        num_samples: held-out samples a curve is measured on, at most.
        num_probes: sign vectors a sample.
        num_generated: samples that are generated.
        mlp_width, mlp_steps: of denoisers of vectors, and of small images taken as such.
        unet_width, unet_steps: of denoisers of images.
        serpentine: latent vectors of d = side^2 >= 64 numbers are laid out as images, row by row to and fro.
    """

    num_tau: int
    tau_range: tuple[float, float]
    num_samples: int
    num_probes: int
    num_generated: int
    mlp_width: int
    mlp_steps: int
    unet_width: int
    unet_steps: int
    serpentine: bool

    def checked(self) -> "Preset":
        """The preset in plain numbers, each within its range, or a refusal."""
        counts = [field.name for field in fields(self) if field.name not in ("tau_range", "serpentine")]
        return replace(
            self,
            tau_range=_checks.interval("tau_range", self.tau_range, positive=True),
            serpentine=bool(self.serpentine),
            **{name: _checks.integer(name, getattr(self, name), _LEAST.get(name, 1)) for name in counts},
        )

    def notes(self) -> list[str]:
        """A sentence on noise that the paper has and these curves do not."""
        low, high = self.tau_range
        if low <= TAU_PAPER[0] * (1 + 1e-9) and high >= TAU_PAPER[1] * (1 - 1e-9):
            return []
        return [f"sqrt(tau) runs from {low**0.5:.3g} to {high**0.5:.3g}; the paper's curves from .01 to 80"]


PRESETS = {
    "quick": Preset(
        num_tau=25, tau_range=TAU_PAPER, num_samples=512, num_probes=4, num_generated=1000,
        mlp_width=128, mlp_steps=1000, unet_width=32, unet_steps=1000, serpentine=False,
    ),
    "full": Preset(
        num_tau=49, tau_range=TAU_PAPER, num_samples=4096, num_probes=4, num_generated=2000,
        mlp_width=256, mlp_steps=5000, unet_width=64, unet_steps=50_000, serpentine=True,
    ),
}  # fmt: skip
