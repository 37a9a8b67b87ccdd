"""The released log partition network, from its checkpoint: minus what it gives, and the Hessian of that."""

import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hessfast import potentials
from hessfast.derivatives import derivatives, perceptrons


class Network(nn.Module):
    """Four times Linear, LayerNorm, ReLU, then one Linear, by the names of the checkpoint."""

    def __init__(self, dim=2, width=512):
        super().__init__()
        for k in range(1, 6):
            self.add_module(f"fc{k}", nn.Linear(dim if k == 1 else width, 1 if k == 5 else width))
        for k in range(1, 5):
            self.add_module(f"norm{k}", nn.LayerNorm(width))

    def forward(self, x):
        for k in range(1, 5):
            x = torch.relu(self.get_submodule(f"norm{k}")(self.get_submodule(f"fc{k}")(x)))
        return self.get_submodule("fc5")(x)


def network(dim=2, width=512):
    """As if trained: gains and shifts of LayerNorm are not those it starts with."""
    torch.manual_seed(0)
    net = Network(dim, width)
    for k in range(1, 5):
        nn.init.normal_(net.get_parameter(f"norm{k}.weight"), 1, 0.3)
        nn.init.normal_(net.get_parameter(f"norm{k}.bias"), 0, 0.3)
    return net


def points(num=200, dim=2):
    return torch.rand(num, dim, generator=torch.Generator().manual_seed(1))


def write(state, path):
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors"])
@pytest.mark.parametrize(("dim", "width"), [(2, 512), (3, 20)])
def test_values_and_derivatives_are_those_of_minus_the_network(tmp_path, name, dim, width):
    net, x = network(dim, width), points(dim=dim)
    phi = potentials.load_released(write(net.state_dict(), tmp_path / name))
    torch.testing.assert_close(phi(x), -net(x)[:, 0], rtol=1e-6, atol=1e-6)
    got = derivatives(phi, x, form="fused", verify=True)

    def truth(y):
        return -double(y[None])[0, 0]

    double = net.double()
    for mine, of in zip(got, (truth, torch.func.grad(truth), torch.func.hessian(truth)), strict=True):
        right = torch.func.vmap(of)(x.double())
        assert mine.dtype == torch.float32
        assert (mine - right).abs().max() <= 1e-5 * right.abs().max()


def test_it_is_a_perceptron_whose_weights_are_the_files(tmp_path):
    net = network(width=16)
    phi = potentials.load_released(str(write(net.state_dict(), tmp_path / "net.pt")))
    hidden, last, activation, _ = perceptrons.layers(phi)
    assert len(hidden) == 4 and activation == "relu"
    assert torch.equal(hidden[2][0], net.get_parameter("fc3.weight"))
    assert torch.equal(hidden[2][3][0], net.get_parameter("norm3.weight"))
    assert torch.equal(last[0], -net.get_parameter("fc5.weight"))


def test_older_files_and_other_dtypes(tmp_path):
    net, x = network(width=16).double(), points()
    torch.save(net.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    phi = potentials.load_released(tmp_path / "old.pt")
    assert {weight.dtype for weight in phi.parameters()} == {torch.float32}
    torch.testing.assert_close(phi(x).double(), -net(x.double())[:, 0], rtol=1e-5, atol=1e-5)


def changed(**tensors):
    state = network(width=16).state_dict() | {name.replace("_", "."): x for name, x in tensors.items()}
    return {name: x for name, x in state.items() if x is not None}


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (changed(fc2_bias=None), r"path must hold fc1\.weight, .* alone, got no fc2\.bias\. Save the state_dict\(\)"),
        (changed(fc1_weight=None), r"got no fc1\.weight\."),
        (changed(fc6_weight=torch.ones(1)), r"got fc6\.weight\."),
        ({"posterior_net": changed(), "epoch": 3}, r"got no fc1\.weight, .*Save the state_dict\(\)"),
        ([torch.ones(2)], r"path must hold a state_dict\(\), got list\. Save that of the network\."),
        (changed(fc1_weight=torch.ones(3)), r"path must hold fc1\.weight of shape \(512, 2\), got \(3,\)"),
        (changed(fc3_weight=torch.ones(16, 8)), r"path must hold fc3\.weight of shape \(16, 16\), got \(16, 8\)"),
        (changed(fc5_weight=torch.ones(2, 16)), r"path must hold fc5\.weight of shape \(1, 16\), got \(2, 16\)"),
        (changed(norm4_bias=torch.full((16,), torch.nan)), r"finite in float32, got NaN or infinity in norm4\.bias"),
        (changed(fc5_bias=torch.tensor([1e300]).double()), r"finite in float32, got NaN or infinity in fc5\.bias"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, state, sentence):
    with pytest.raises(ValueError, match=sentence):
        potentials.load_released(write(state, tmp_path / "net.pt"))


class Code:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_code_in_a_file_is_not_run(tmp_path):
    folder = tmp_path / "made"
    torch.save(changed() | {"fc1.weight": Code(str(folder))}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"path must hold tensors alone, got .*save the network's state_dict\(\)"):
        potentials.load_released(tmp_path / "net.pt")
    assert not folder.exists()
    torch.load(tmp_path / "net.pt", weights_only=False)  # the file does what it threatens
    assert folder.exists()
    torch.save(network(width=16), tmp_path / "module.pt")
    with pytest.raises(ValueError, match="objects that may run code"):
        potentials.load_released(tmp_path / "module.pt")


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="path must be the checkpoint of the released network, got no file"):
        potentials.load_released(tmp_path / "none.pt")
    with pytest.raises(FileNotFoundError, match="got no file"):
        potentials.load_released(tmp_path)
    for name in ("net.pt", "net.safetensors"):
        whole = write(changed(), tmp_path / name).read_bytes()
        for part in (b"", b"no checkpoint", whole[:-200]):
            (tmp_path / name).write_bytes(part)
            with pytest.raises(ValueError, match=r"path must hold tensors alone, got .*, damaged or .*Fetch it again"):
                potentials.load_released(tmp_path / name)
