"""Whatever mode the caller has set, results have the same bits."""

import dataclasses

import numpy as np
import pytest
import torch

from hessfast.diffusability import encoder_penalties, fisher_curve, from_score, train_denoiser, train_gpe, train_vae
from hessfast.posterior import Grid
from hessfast.slices import SlicePlan, digit_generator, generate, lipschitz, random_anchors

MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


def _vectors():
    return torch.randn((70, 2), generator=torch.Generator().manual_seed(0))


def _images():
    return torch.rand((20, 1, 8, 8), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.SiLU(), torch.nn.Linear(16, 2)).eval()


def _curve(network, _):
    curve = fisher_curve(from_score(lambda y, tau: network(y)), _vectors(), [0.5, 1.0], asymmetry=True)
    return curve.fisher_information_rate.to_dict()


def _penalties(network, _):
    return dataclasses.asdict(encoder_penalties(network, _vectors(), 2))


def _trained(train, images):
    return [*train(images, 2, width=4, num_steps=3).encoder.state_dict().values()]


def _plan():
    return SlicePlan(random_anchors((1, 8, 8)), Grid((0, 0), (1, 1), (2, 2)), num_steps=2, micro_batch=4)


def _store(_, folder):
    store = generate(_plan(), digit_generator(), folder, features="digits")
    return np.array(store["latents"]), np.array(store["features"])


TASKS = {
    "fisher_curve": _curve,
    "encoder_penalties": _penalties,
    "train_denoiser": lambda *_: [*train_denoiser(_vectors(), num_steps=3, batch_size=16).network.parameters()],
    "train_gpe": lambda *_: _trained(train_gpe, _images()),
    "train_vae": lambda *_: _trained(train_vae, _images()),
    "lipschitz": lambda *_: lipschitz(_plan(), digit_generator(), "digits").constant,
    "generate": _store,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task", TASKS)
def test_the_mode_of_the_caller_changes_nothing(task, mode, network, tmp_path):
    plain = TASKS[task](network, tmp_path / "plain")
    with MODES[mode]():
        other = TASKS[task](network, tmp_path / "other")
    torch.testing.assert_close(other, plain, rtol=0, atol=0)
