"""Latents as diffusion takes them: normalised by one number, and laid out as images."""

import pytest
import torch

from hessfast.diffusability import normalisation, serpentine, snr_scale


def test_normalisation_and_serpentine():
    z = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 7) + 3
    normal = normalisation(z)
    assert normal(z).mean(dim=0).abs().max() < 1e-5
    assert float((normal(z) ** 2).mean()) == pytest.approx(1, rel=1e-5)
    assert float(normal(z)[:, 5].std() / normal(z)[:, 0].std()) == pytest.approx(6, rel=0.2)  # shapes stay
    image = serpentine(torch.arange(9.0)[None], 3)[0, 0]
    assert image.tolist() == [[0, 1, 2], [5, 4, 3], [6, 7, 8]]


def test_refusals():
    with pytest.raises(ValueError, match="latents must differ"):
        normalisation(torch.ones(3, 2))
    with pytest.raises(ValueError, match="latents must have shape"):
        serpentine(torch.ones(3, 5), 2)
    with pytest.raises(ValueError, match="data must differ"):
        snr_scale(torch.ones(3, 2), torch.eye(3))
