"""Safetensors files with a checksum, the same bytes of the same content."""

import subprocess
import sys

import pytest
import torch

from hessfast import _checkpoint, _progress, _training

PLAN = {"num_steps": 7, "name": "x"}


def saved(path):
    module = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(module.parameters())
    module(torch.ones(3)).sum().backward()
    optimiser.step()
    _checkpoint.save(path, module, optimiser, 5, PLAN)
    return module, optimiser


def test_what_was_saved_comes_back(tmp_path):
    module, optimiser = saved(tmp_path / "c")
    other = torch.nn.Linear(3, 2)
    again = torch.optim.Adam(other.parameters())
    assert _checkpoint.load(tmp_path / "c", other, again, PLAN) == 5
    assert torch.equal(other.weight, module.weight)
    kept, back = (each.state_dict()["state"][0]["exp_avg"] for each in (optimiser, again))
    assert torch.equal(kept, back)
    with pytest.raises(ValueError, match="checkpoint must be of the same training"):
        _checkpoint.load(tmp_path / "c", other, again, PLAN | {"num_steps": 8})


def test_flipped_bits_are_found(tmp_path):
    module, optimiser = saved(tmp_path / "c")
    whole = (tmp_path / "c").read_bytes()
    for place in range(0, len(whole), 7):
        broken = bytearray(whole)
        broken[place] ^= 1 << place % 8
        (tmp_path / "c").write_bytes(broken)
        with pytest.raises(ValueError, match=r"checkpoint must be .* Remove it\."):
            _checkpoint.load(tmp_path / "c", module, optimiser, PLAN)


def test_tensors_may_share_their_numbers(tmp_path):
    tied = torch.arange(4.0)
    _checkpoint.write(tmp_path / "c", {"one": tied, "other": tied, "part": tied[1:]}, {})
    tensors = _checkpoint.read(tmp_path / "c")[1]
    assert {name: each.tolist() for name, each in tensors.items()} == {
        "one": [0, 1, 2, 3], "other": [0, 1, 2, 3], "part": [1, 2, 3]
    }  # fmt: skip


def test_the_bytes_do_not_depend_on_the_process(tmp_path):
    code = (
        "import hashlib, torch; from hessfast import _checkpoint; "
        "print(hashlib.sha256(_checkpoint.to_bytes({'w': torch.ones(3)}, {'b': 1, 'a': [2]})).hexdigest())"
    )
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    }
    assert len(runs) == 1


def test_files_of_others_are_read_as_they_are(tmp_path):
    from safetensors.torch import save_file

    save_file({"w": torch.ones(2)}, tmp_path / "f", {"format": "pt"})
    fields, tensors = _checkpoint.read(tmp_path / "f")
    assert fields == {"format": "pt"} and tensors["w"].tolist() == [1, 1]


def test_training_without_stderr_has_no_bar(monkeypatch):
    module = torch.nn.Linear(3, 2)
    monkeypatch.setattr(sys, "stderr", None)  # as of 2>&-
    _progress.tell("begun")
    taken = _training.steps(module, torch.optim.Adam(module.parameters()), 2, PLAN, None, every=1, progress=True)
    assert list(taken) == [0, 1]
