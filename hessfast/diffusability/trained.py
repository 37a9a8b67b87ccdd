"""A trained denoiser, and the file that it is kept in."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hessfast import _checkpoint
from hessfast._modules import dtype_of

from .denoisers import Denoiser, from_edm_raw
from .networks import MLP, UNet

_FORMAT = "hessfast.diffusability.TrainedDenoiser 1"
_OWN = {"MLP": MLP, "UNet": UNet}


@dataclass(frozen=True, eq=False)
class TrainedDenoiser(Denoiser):
    """What `train_denoiser` returns: D(y) = centre + D_0(y - centre), D_0 a network as `from_edm_raw` takes it.

    It takes y of any dtype, which the network alone gets in that of its weights.

    Attributes:
        centre: mean of the samples, `[...]`.
        sigma_data: their deviation from it.
    """

    centre: Tensor = field(kw_only=True)
    sigma_data: float = field(kw_only=True)

    @classmethod
    def of(
        cls, network: nn.Module, centre: Tensor, sigma_data: float, tau_range: tuple[float, float]
    ) -> "TrainedDenoiser":
        """Of a trained network, whose weights stay as they are from now on."""
        network = network.eval().requires_grad_(False)
        inner = from_edm_raw(network, sigma_data)

        def predict(y: Tensor, tau: float) -> Tensor:
            skip, out, _ = inner.coefficients(tau)
            c = centre.to(y)
            answer = inner.predict((y - c).to(dtype_of(network) or y.dtype), tau)
            return answer.to(y) + (1 - skip) / out * c

        return cls(predict, inner.coefficients, tau_range, network, centre=centre, sigma_data=sigma_data)

    def save(self, path: str | Path) -> None:
        """Write one safetensors file."""
        network = getattr(self.network, "_orig_mod", self.network)  # of a compiled one what it was made of
        settings = network.settings if type(network) in _OWN.values() else None
        fields = {"format": _FORMAT, "network": type(network).__name__, "settings": settings}
        fields |= {"sigma_data": self.sigma_data, "tau_range": self.tau_range}
        tensors = {f"network.{name}": weights for name, weights in network.state_dict().items()}
        _checkpoint.write(path, tensors | {"centre": self.centre}, fields)

    @classmethod
    def load(cls, path: str | Path, network: nn.Module | None = None, device: Any = "cpu") -> "TrainedDenoiser":
        """What `save` wrote.

        Args:
            network: one like that which was trained, if it was not the package's own; a copy gets the weights.
            device: where it will be.

        Raises:
            FileNotFoundError: without a file.
            ValueError: for a file of another kind, or another network.
        """
        fields, tensors = _checkpoint.read_as(_FORMAT, path, device)
        if network is None and fields["settings"] is None:
            raise ValueError(f"network must be the {fields['network']} that was trained, got None.")
        made = _OWN[fields["network"]](**fields["settings"]) if network is None else copy.deepcopy(network)
        try:
            made.to(device).load_state_dict(_checkpoint.part(tensors, "network"), assign=True)  # in its dtypes
        except RuntimeError as error:
            raise ValueError(f"network must be like the {fields['network']} that was trained, got another.") from error
        low, high = fields["tau_range"]
        return cls.of(made, tensors["centre"], fields["sigma_data"], (low, high))
