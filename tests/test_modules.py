"""Networks among what is called."""

import time
from functools import partial

import pytest
import torch
from torch import nn

from hessfast import _modules

NETWORK = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))


class Trainer:
    def __init__(self):
        self.model = NETWORK

    ema = None

    def denoise(self, y, tau):
        return self.model(y)


def within(y):
    return NETWORK(y)


class Wrapper:
    def __init__(self, network):
        self._network, self.sigma = network, 0.5

    @property
    def network(self):
        return self._network

    @torch.no_grad()
    def __call__(self, y):
        return self._network(y)


class Holder:
    def __init__(self):
        self._network = NETWORK

    @property
    def network(self):
        return self._network

    def denoise(self, y):
        return within(y)


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.sigma = 0.5
        self.model, self.ema = NETWORK, nn.Dropout(0.5).eval()


TRAINER, MODELS, WHOLE, WRAPPER, HOLDER = Trainer(), {"ema": NETWORK}, Whole(), Wrapper(NETWORK), Holder()
WAYS = {
    "itself": NETWORK,
    "a lambda": lambda y: NETWORK(y),
    "a function that calls another": lambda y: within(y),
    "an entry": lambda y: MODELS["ema"](y),
    "an argument": partial(lambda network, y: network(y), NETWORK),
    "a method": TRAINER.denoise,
    "what a method calls": HOLDER.denoise,
    "an attribute": lambda y: TRAINER.model(y),
    "a method of an object": lambda y: TRAINER.denoise(y, 1.0),
    "a part of a module": lambda y: WHOLE.model(y),
    "a module and a number of it": lambda y: WHOLE(y) / WHOLE.sigma,
    "an object that is called": lambda y: WRAPPER(y) / WRAPPER.sigma,
    "an object itself": WRAPPER,
    "a property": lambda y: WRAPPER.network(y),
    "a property alone": lambda y: HOLDER.network(y),
    "within a function": lambda y: [WRAPPER.network(each) for each in y],
}


@pytest.mark.parametrize("way", WAYS)
def test_layers_in_training_are_found(way):
    NETWORK.train()
    with pytest.raises(ValueError, match=r"potential must be in evaluation mode, got Dropout; call its \.eval\(\)"):
        _modules.refuse_training("potential", WAYS[way])
    NETWORK.eval()
    _modules.refuse_training("potential", WAYS[way])


def test_networks_beside_the_one_that_is_asked_may_be_in_training():
    """As in a loop of training, of which an average of the weights is measured."""
    TRAINER.ema = nn.Dropout(0.5).eval()
    NETWORK.train()
    _modules.refuse_training("denoiser", lambda y: TRAINER.ema(y), lambda y: WHOLE.ema(y))
    with pytest.raises(ValueError, match="denoiser must be in evaluation mode"):
        _modules.refuse_training("denoiser", WHOLE)


def test_functions_that_call_each_other_are_looked_at_once():
    """Twenty of them, each of which mentions all: not a factorial of ways."""
    functions = []
    for _ in range(20):
        functions.append(lambda y: [function(y) for function in functions])
    start = time.perf_counter()
    _modules.refuse_training("f", *functions, list(range(10**6)))
    assert time.perf_counter() - start < 2


network = NETWORK


class Named:
    def __init__(self):
        self.network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).eval()

    def encode(self, y):
        return self.network(y)


def test_an_attribute_is_not_the_global_of_its_name():
    NETWORK.train()
    _modules.refuse_training("encoder", Named().encode)
    with pytest.raises(ValueError, match="encoder must be in evaluation mode"):
        _modules.refuse_training("encoder", lambda y: network(y))


def test_what_cannot_draw_is_no_matter():
    _modules.refuse_training("f", nn.Dropout(0.0).train(), torch.exp, None, 3, lambda y: torch.relu(y))


def test_layers_that_draw_in_training():
    attention, recurrent = partial(nn.MultiheadAttention, 4, 2), partial(nn.LSTM, 2, 2, 2)
    for layer in (nn.Dropout(0.1), nn.RReLU(), attention(dropout=0.1), recurrent(dropout=0.1)):
        assert _modules.draws(nn.Sequential(layer)), layer
    for layer in (nn.Dropout(0.0), nn.ReLU(), attention(), recurrent()):
        assert not _modules.draws(nn.Sequential(layer)), layer


def test_weights_tell_the_dtype():
    assert _modules.dtype_of(nn.Linear(2, 2).half()) == torch.float16
    assert _modules.dtype_of(nn.BatchNorm1d(2, affine=False)) == torch.float32
    assert _modules.dtype_of(lambda x: x) is None
    assert _modules.dtype_of(nn.Linear(2, 2).double().forward) == torch.float64
