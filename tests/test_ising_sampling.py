"""ising.sample, sweep and pack: what comes in and goes out, what is certified, what is refused."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from hessfast import ising
from hessfast._dispatch import BackendUnavailableError
from hessfast.ising import _methods, sampling
from hessfast.ising.sampling import pack, sample, sweep

TEMPERATURES, FIELDS = np.array([3.0, 1.0, 2.2, 5.0, 1.0, 2.6]), np.array([0.5, 0.0, -0.1, 0.0, -2.0, 0.0])
FIELDS_OF_A_BATCH = ("words", "temperature", "field", "certificate")


def draw(size=12, seed=3, **options):
    """Six lattices, three of them by each exact method."""
    return sample(TEMPERATURES, FIELDS, size, seed, **options)


# ---- The batch ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 6, 64, 66, 128, 130, 258])
def test_words_are_laid_out_as_documented(size):
    batch = sample([3.0, 5.0], [0.5, -0.1], size)
    assert batch.words.dtype == np.uint64
    assert batch.words.shape == (2, 4, size // 2, -(-size // 128))
    bits = np.zeros((2, 4, size // 2, batch.words.shape[3] * 64), bool)
    spins = batch.spins()
    for row, column in np.ndindex(size, size):
        black, odd = (row + column) % 2 == 0, row % 2
        plane, shift = (0 if black else 2) + odd, odd if black else 1 - odd
        bits[:, plane, row // 2, (column - shift) // 2] = spins[:, row, column] > 0
    words = (bits.reshape(*batch.words.shape, 64) << np.arange(64, dtype=np.uint64)).sum(-1, dtype=np.uint64)
    np.testing.assert_array_equal(batch.words, words)  # unused bits are zero


@pytest.mark.parametrize("size", [2, 6, 66, 130])
def test_energy_and_magnetization_are_those_of_the_spins(size):
    batch = sample([3.0, 1.0, 5.0], [0.5, -1.2, 0.0], size)
    spins = batch.spins().astype(int)
    assert spins.shape == (3, size, size) and set(np.unique(spins)) == {-1, 1}
    bonds = [
        sum(s[i, j] * (s[(i + 1) % size, j] + s[i, (j + 1) % size]) for i, j in np.ndindex(size, size)) for s in spins
    ]
    assert batch.bond_energy().dtype == batch.magnetization().dtype == np.int64
    np.testing.assert_array_equal(batch.bond_energy(), np.negative(bonds))
    np.testing.assert_array_equal(batch.magnetization(), spins.sum((1, 2)))


@pytest.mark.parametrize("size", [2, 6, 126, 128, 130, 256])
def test_pack_and_spins_undo_each_other(size):
    spins = np.random.default_rng(size).choice(np.array([-1, 1], np.int8), (3, size, size))
    packed = pack(spins)
    assert packed.spins().dtype == np.int8
    np.testing.assert_array_equal(packed.spins(), spins)
    np.testing.assert_array_equal(pack(spins[0].tolist()).words, packed.words[:1])
    np.testing.assert_array_equal(pack(spins.astype(float)).words, packed.words)


def test_provenance():
    batch = draw(first_id=7)
    assert (len(batch), batch.size, batch.seed, batch.first_id) == (6, 12, 3, 7)
    np.testing.assert_array_equal(batch.temperature, TEMPERATURES)
    np.testing.assert_array_equal(batch.field, FIELDS)
    assert batch.certificate.tolist() == ["cftp", "fk-cftp", "cftp", "cftp", "cftp", "cftp"]
    later = sweep(batch, 2.0, 0.1, 1, seed=4)
    assert (later.size, later.seed, later.first_id) == (12, 4, 7)
    assert set(later.certificate) == {"mcmc"} and set(later.temperature) == {2.0} and set(later.field) == {0.1}
    packed = pack(batch.spins())
    assert np.isnan(packed.temperature).all() and np.isnan(packed.field).all() and set(packed.certificate) == {""}
    assert (packed.seed, packed.first_id) == (None, 0)


# ---- What a sample depends on ---------------------------------------------------------------------------------------


def test_temperature_and_field_broadcast():
    both = sample([2.5, 2.5, 2.5], [0.1, 0.1, 0.1], 8)
    for other in (sample([2.5] * 3, 0.1, 8), sample(2.5, [0.1] * 3, 8), sample(np.full(3, 2.5), np.array([0.1]), 8)):
        for name in FIELDS_OF_A_BATCH:
            np.testing.assert_array_equal(getattr(other, name), getattr(both, name))
    assert sample(2.5, 0.1, 8).words.shape == (1, 4, 4, 1)
    assert sample([], [], 8).words.shape == (0, 4, 4, 1)
    assert sample([], 1.0, 8).bond_energy().shape == (0,)


@pytest.mark.parametrize("method", ["auto", "mcmc"])
def test_a_sample_does_not_depend_on_its_batch(method):
    whole, part = draw(method=method), sample(TEMPERATURES[2:], FIELDS[2:], 12, 3, method=method, first_id=2)
    for name in FIELDS_OF_A_BATCH:
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[2:])
    swept, swept_part = sweep(whole, 2.5, FIELDS, range(6), 1), sweep(part, 2.5, FIELDS[2:], range(2, 6), 1)
    np.testing.assert_array_equal(swept_part.words, swept.words[2:])
    np.testing.assert_array_equal(swept.words[0], whole.words[0])  # no sweep, no change


def test_auto_is_the_method_it_names():
    batch = draw()
    for name in ("cftp", "fk-cftp"):
        chosen = batch.certificate == name
        alone = [
            sample(TEMPERATURES[i], FIELDS[i], 12, 3, method=name, first_id=int(i)) for i in np.flatnonzero(chosen)
        ]
        np.testing.assert_array_equal(np.concatenate([each.words for each in alone]), batch.words[chosen])


@pytest.mark.parametrize("method", ["cftp", "fk-cftp", "mcmc"])
def test_seed_and_number_change_every_sample(method):
    temperature = np.full(20, 3.0)
    words = [
        sample(temperature, 0.1, 32, seed, method=method, first_id=i).words for seed, i in ((0, 0), (1, 0), (0, 20))
    ]
    words.append(sample(temperature, 0.1, 32, 2**64 - 1, method=method).words)
    lattices = np.concatenate(words).reshape(80, -1)
    assert len(np.unique(lattices, axis=0)) == 80
    np.testing.assert_array_equal(sample(temperature, 0.1, 32, 0, method=method).words, words[0])


def test_sweep_leaves_its_argument_alone_and_its_seed_matters():
    batch = draw()
    before = batch.words.copy()
    one, other = sweep(batch, 4.0, 0.0, 3, seed=1), sweep(batch, 4.0, 0.0, 3, seed=2)
    np.testing.assert_array_equal(batch.words, before)
    assert (one.words != before).any((1, 2, 3)).all() and (one.words != other.words).any((1, 2, 3)).all()


def test_backends_agree():
    methods = ["cftp", "mcmc"]
    ours, reference = (
        [sample([5.0, 4.0], 1.0, 4, 1, method=m, backend=b).words for m in methods] for b in ("cpu", "reference")
    )
    np.testing.assert_array_equal(ours, reference)
    batch = draw(size=6)
    words = [sweep(batch, TEMPERATURES, FIELDS, 2, 1, backend=b).words for b in ("cpu", "reference")]
    np.testing.assert_array_equal(*words)


# ---- torch ----------------------------------------------------------------------------------------------------------


def test_tensors_in_tensors_out():
    torch = pytest.importorskip("torch")
    expected = draw()
    for temperature in (torch.tensor(TEMPERATURES), torch.tensor(TEMPERATURES, requires_grad=True)):
        batch = sample(temperature, FIELDS, 12, 3)
        assert batch.words.dtype == torch.uint64
        np.testing.assert_array_equal(batch.words.numpy(), expected.words)
    assert isinstance(sample(3.0, torch.tensor(0.5), 12).words, torch.Tensor)
    for name in ("spins", "bond_energy", "magnetization"):
        value, other = getattr(batch, name)(), getattr(expected, name)()
        assert isinstance(value, torch.Tensor) and isinstance(other, np.ndarray)
        assert str(value.dtype) == f"torch.{other.dtype}"
        np.testing.assert_array_equal(value.numpy(), other)
    packed = pack(batch.spins())
    assert isinstance(packed.words, torch.Tensor)
    np.testing.assert_array_equal(packed.words.numpy(), expected.words)
    np.testing.assert_array_equal(pack(batch.spins().bfloat16()).words.numpy(), expected.words)
    swept = sweep(batch, 2.0, torch.tensor(0.1, dtype=torch.float64), torch.arange(6), 5).words
    assert isinstance(swept, torch.Tensor)
    np.testing.assert_array_equal(swept.numpy(), sweep(expected, 2.0, 0.1, np.arange(6), 5).words)


def test_narrow_tensors_are_read_as_they_are():
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.int32):
        batch = sample(torch.tensor([3, 4], dtype=dtype), 0.0, 8)
        np.testing.assert_array_equal(batch.words.numpy(), sample([3.0, 4.0], 0.0, 8).words)


# ---- Certificates and extremes --------------------------------------------------------------------------------------


def test_auto_certifies_every_parameter():
    rng = np.random.default_rng(0)
    temperature, field = rng.uniform(1, 5, 100_000), rng.uniform(-2, 2, 100_000)
    names, counts = np.unique(_methods.certificates(temperature, field, "auto"), return_counts=True)
    assert names.tolist() == ["cftp", "fk-cftp"] and counts.min() > 1000
    batch = sample(temperature[:300], field[:300], 16)
    assert set(batch.certificate) == {"cftp", "fk-cftp"}
    np.testing.assert_array_equal(batch.certificate, _methods.certificates(temperature[:300], field[:300], "auto"))


def test_certificates_depend_on_the_size_of_the_field_only():
    temperature, field = np.repeat(np.linspace(0.1, 6, 60), 50), np.tile(np.linspace(0, 5, 50), 60)
    above, below = (_methods.certificates(temperature, h, "auto") for h in (field, -field))
    np.testing.assert_array_equal(above, below)
    for rows in (above == "cftp").reshape(60, 50):  # a stronger field never leaves the region of cftp
        assert (np.diff(rows.astype(int)) >= 0).all()


EXTREMES = """
import numpy as np
from hessfast import ising
m = ising.sample([0.05, 0.05, 0.05, 1.0, 1.0, 1e-99], [0.0, 1e-12, -1e6, 1e6, -1e6, 0.0]).magnetization() / 128**2
assert (np.abs(m) == 1).all() and (m[2:5] == [-1, 1, -1]).all(), m
m = ising.sample(1e9, [0.0, 1e6, -1e6, 1e9]).magnetization() / 128**2
assert (np.abs(m - np.tanh([0, 1e-3, -1e-3, 1])) < 5 / 128).all(), m
"""


def test_extreme_parameters_end_soon():
    subprocess.run([sys.executable, "-c", EXTREMES], check=True, timeout=300)  # compiling included


# ---- What is refused ------------------------------------------------------------------------------------------------

BATCH = pack(np.ones((3, 4, 4)))
NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sample(NAN, 0.0), ValueError, "temperature must be finite, got nan."),
        (lambda: sample([2.0, INFINITY], 0.0), ValueError, "temperature must be finite, got inf."),
        (lambda: sample(2.0, [0.0, NAN]), ValueError, "field must be finite, got nan."),
        (lambda: sample(2.0, -INFINITY), ValueError, "field must be finite, got -inf."),
        (lambda: sample(None, 0.0), TypeError, "temperature must be a number or an array of numbers, got None"),
        (lambda: sample([2.0, 0.0], 0.0), ValueError, "temperature must be > 0, got 0.0."),
        (lambda: sample(-1.5, 0.0), ValueError, "temperature must be > 0, got -1.5."),
        (lambda: sample("hot", 0.0), TypeError, "temperature must be a number or an array of numbers, got 'hot'."),
        (lambda: sample(2.0, 1j), TypeError, "field must be a number or an array of numbers, got 1j."),
        (lambda: sample(np.array([2 + 1j]), 0.0), TypeError, "temperature must be a number or an array of numbers"),
        (lambda: sample([[2.0], [1.0, 3.0]], 0.0), TypeError, "temperature must be a number or an array of numbers"),
        (lambda: sample(10**400, 0.0), TypeError, "temperature must be a number or an array of numbers"),
        (lambda: sample([1.0, 2.0], [0.0] * 3), ValueError, r"must have shapes that broadcast, got \(2,\) and \(3,\)."),
        (lambda: sample(np.ones((2, 2)), 0.0), ValueError, r"must be numbers or one-dimensional, got shape \(2, 2\)."),
        (lambda: sample(2.0, 0.0, 7), ValueError, "size must be even for a checkerboard, got 7. Use 6 or 8."),
        (lambda: sample(2.0, 0.0, 0), ValueError, "size must be >= 2, got 0."),
        (lambda: sample(2.0, 0.0, -4), ValueError, "size must be >= 2, got -4."),
        (lambda: sample(2.0, 0.0, 8.0), TypeError, "size must be an integer, got 8.0."),
        (lambda: sample(2.0, 0.0, "8"), TypeError, "size must be an integer, got '8'."),
        (lambda: sample(2.0, 0.0, 8, -1), ValueError, "seed must be >= 0 and <= 18446744073709551615, got -1."),
        (lambda: sample(2.0, 0.0, 8, 2**64), ValueError, "seed must be >= 0 and <= 18446744073709551615"),
        (lambda: sample(2.0, 0.0, 8, 0.5), TypeError, "seed must be an integer, got 0.5."),
        (lambda: sample(2.0, 0.0, 8, True), TypeError, "seed must be an integer, got True."),
        (lambda: sample(2.0, 0.0, 8, first_id=-1), ValueError, "first_id must be >= 0"),
        (lambda: sample(2.0, 0.0, 8, first_id=1.0), TypeError, "first_id must be an integer, got 1.0."),
        (lambda: sample(2.0, 0.0, 8, method="wolff"), ValueError, "method must be one of auto, cftp, fk-cftp, mcmc"),
        (lambda: sample(2.0, 0.0, 8, device="tpu"), ValueError, "device must be .cpu., .cuda. or .cuda:N., got 'tpu'."),
        (lambda: sample(2.0, 0.0, 8, backend="fpga"), ValueError, "backend must be one of reference, cpu, gpu, got"),
        (lambda: sample(1.0, 0.0, 8, method="cftp"), ValueError, 'not be "cftp" at T = 1, H = 0: it would hardly end.'),
        (lambda: sample([3.0, 2.0], 0.01, 256, method="cftp"), ValueError, 'not be "cftp" at T = 2, H = 0.01'),
        (lambda: sample(2.0, 0.0, 8, method="cftp", backend="gpu"), ValueError, 'backend must be "cpu" or "ref'),
        (lambda: sample(2.0, 0.0, 8, device="cuda", backend="cpu"), ValueError, 'backend must be "gpu" for data'),
        (lambda: sweep(BATCH.spins(), 2.0, 0.0, 1, 0), TypeError, "batch must be an IsingBatch, got ndarray. Make one"),
        (lambda: sweep(BATCH, 0.0, 0.0, 1, 0), ValueError, "temperature must be > 0, got 0.0."),
        (lambda: sweep(BATCH, 2.0, NAN, 1, 0), ValueError, "field must be finite, got nan."),
        (lambda: sweep(BATCH, [2.0, 2.0], 0.0, 1, 0), ValueError, r"temperature must be a number or have shape \(3,\)"),
        (lambda: sweep(BATCH, 2.0, np.zeros((3, 1)), 1, 0), ValueError, r"field must be a number or have shape \(3,\)"),
        (lambda: sweep(BATCH, 2.0, 0.0, -1, 0), ValueError, "num_sweeps must be >= 0, got -1."),
        (lambda: sweep(BATCH, 2.0, 0.0, 1.5, 0), TypeError, "num_sweeps must be an integer or integers, got 1.5."),
        (lambda: sweep(BATCH, 2.0, 0.0, "many", 0), TypeError, "num_sweeps must be an integer or integers"),
        (lambda: sweep(BATCH, 2.0, 0.0, [1, 2], 0), ValueError, r"num_sweeps must be a number or have shape \(3,\)"),
        (lambda: sweep(BATCH, 2.0, 0.0, [[1], [1, 2]], 0), ValueError, r"num_sweeps must be an array, got \[\[1\], "),
        (lambda: sweep(BATCH, 2.0, 0.0, 1, -1), ValueError, "seed must be >= 0"),
        (lambda: sweep(BATCH, 2.0, 0.0, 1, 0, backend="gpu"), ValueError, 'for data on device .cpu., got .gpu.'),
        (lambda: BATCH[3], IndexError, r"index of a sample must be in \[-3, 3\), got 3."),
        (lambda: BATCH[0, 1], IndexError, r"a batch is indexed along one axis, got \(0, 1\). Use batch.words"),
        (lambda: BATCH[[True, False]], IndexError, r"A mask must have shape \(3,\), got \(2,\)."),
        (lambda: sweep(BATCH[::2], 2.0, 0.0, 1, 0), ValueError, "batch must be of consecutive numbers, got one that"),
        (lambda: pack(np.zeros((1, 4, 4))), ValueError, "spins must be -1 or \\+1, got 0.0."),
        (lambda: pack(np.full((1, 4, 4), NAN)), ValueError, "spins must be -1 or \\+1, got nan."),
        (lambda: pack(np.ones((1, 4, 6))), ValueError, r"spins must have shape .*, got \(1, 4, 6\)."),
        (lambda: pack(np.ones(4)), ValueError, r"spins must have shape \[n, size, size\] or \[size, size\]"),
        (lambda: pack(np.ones((1, 5, 5))), ValueError, "size of spins must be even .*, got 5. Use 4 or 6."),
        (lambda: pack(np.ones((1, 0, 0))), ValueError, "size of spins must be >= 2, got 0."),
        (lambda: pack([[1], [1, -1]]), ValueError, r"spins must be an array, got \[\[1\], \[1, -1\]\]."),
        (lambda: pack("up"), ValueError, "spins must have shape"),
    ],
)  # fmt: skip
def test_refusals(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_part_of_a_batch_keeps_its_numbers():
    """A sweep of the part is the part of the sweep."""
    batch = sample([1.0, 2.0, 3.0, 4.0], 0.1, 8, seed=3, first_id=5)
    part = batch[1:3]
    assert (len(part), part.first_id, part.temperature.tolist()) == (2, 6, [2.0, 3.0])
    assert part.certificate.tolist() == batch.certificate[1:3].tolist()
    swept = sweep(part, 2.0, 0.0, 3, seed=9)
    np.testing.assert_array_equal(swept.words, sweep(batch, 2.0, 0.0, 3, seed=9)[1:3].words)
    assert len(batch[4:]) == len(batch[3:1]) == 0


@pytest.mark.parametrize("tensors", [False, True])
def test_any_index_picks_lattices(tensors):
    batch = sample([1.0, 2.0, 3.0, 4.0], 0.1, 8, seed=3, first_id=5)
    if tensors:
        batch = dataclasses.replace(batch, words=pytest.importorskip("torch").from_numpy(batch.words))
    spins, mask = batch.spins(), batch.temperature < 3.5
    for index, rows, first_id in (
        (-1, [3], 8), (np.int64(1), [1], 6), ([2, 3], [2, 3], 7), ([3, 0, 0], [3, 0, 0], None), (mask, [0, 1, 2], 5),
        (~mask, [3], 8), (slice(None, None, 2), [0, 2], None), (slice(None, None, -1), [3, 2, 1, 0], None), ([], [], 5),
    ):  # fmt: skip
        part = batch[index]
        assert part.temperature.tolist() == batch.temperature[rows].tolist() and part.first_id == first_id
        np.testing.assert_array_equal(part.spins(), spins[rows])
    assert [one.temperature.tolist() for one in batch] == [[1.0], [2.0], [3.0], [4.0]]
    assert batch[::2][:1].first_id is None


def test_a_batch_says_in_a_line_what_it_is():
    assert repr(BATCH[:0]) == "IsingBatch(0 lattices of 4 x 4)"
    batch = sample([3.0, 5.0, 4.0], [0.5, -2.0, 0.0], 12, method="cftp")
    assert repr(batch) == "IsingBatch(3 lattices of 12 x 12, 3 cftp, temperature 3 to 5, field -2 to 0.5)"
    mixed = dataclasses.replace(batch[1:], certificate=np.array(["mcmc", "fk-cftp"]))
    assert repr(mixed).startswith("IsingBatch(2 lattices of 12 x 12, 1 fk-cftp, 1 mcmc, temperature 4 to 5, ")
    assert repr(pack(np.ones((2, 4, 4)))) == "IsingBatch(2 lattices of 4 x 4, 2 packed)"


def test_a_missing_gpu_is_named():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    for temperature, method in ((1.0, "auto"), (3.0, "auto"), (3.0, "fk-cftp"), (3.0, "mcmc")):
        with pytest.raises(BackendUnavailableError, match='No CUDA device was found; use device="cpu"'):
            sample(temperature, 0.0, 8, method=method, device="cuda")


@pytest.mark.gpu
def test_a_gpu_and_its_host_draw_the_lattices_of_the_cpu():
    rng = np.random.default_rng(0)
    temperature, field = rng.uniform(1, 5, 300), rng.uniform(-2, 2, 300)
    expected = sample(temperature, field, 128, seed=1)
    batch = sample(temperature, field, 128, seed=1, device="cuda")
    assert set(batch.certificate) == {"cftp", "fk-cftp"} and batch.words.is_cuda
    np.testing.assert_array_equal(batch.words.cpu().numpy(), expected.words)


def test_the_host_draws_what_has_no_gpu_kernel(monkeypatch):
    monkeypatch.setattr(sampling, "present", lambda device: device)
    T, H = np.full(3, 1.5), np.full(3, 0.01)
    draw = sampling._fk_cftp("cuda", None)
    words = draw(T, H, 8, np.uint64(4), np.arange(3, dtype=np.uint64))
    np.testing.assert_array_equal(words, sample(T, H, 8, seed=4, method="fk-cftp").words)
    with pytest.raises(BackendUnavailableError, match="ising_fk_cftp has no gpu kernel; it has reference or cpu"):
        sampling._fk_cftp("cuda", "gpu")


def test_names_of_the_module():
    assert ising.sample is sample and ising.sweep is sweep and ising.pack is pack


def test_swept_lattices_are_certified_as_such_whatever_they_were():
    batch = sample([2.0, 3.0], 0.5, 4, seed=1)
    unnamed = dataclasses.replace(batch, certificate=np.full(2, ""))
    assert sweep(unnamed, 2.0, 0.0, 1, 0).certificate.tolist() == ["mcmc", "mcmc"]


def test_many_of_one_point():
    many, few = ising.sample(3.0, 0.1, 16, seed=2, num=5), ising.sample([3.0] * 5, 0.1, 16, seed=2)
    assert len(many) == 5 and (many.words == few.words).all() and (many.temperature == 3).all()
    assert len(ising.sample(3.0, 0.1, 16, num=0)) == 0
    with pytest.raises(ValueError, match=r"temperature must be a number or have shape \(4,\), got shape \(2,\)"):
        ising.sample([3.0, 4.0], 0.1, 16, num=4)
    with pytest.raises(ValueError, match="temperature must be between 1e-100 and 1e100 in size"):
        ising.sample(1e-200, 0.0)


def test_a_part_that_is_packed_keeps_its_numbers():
    spins = ising.sample(3.0, 0.1, 16, seed=2, num=5).spins()
    whole = ising.sweep(ising.pack(spins), 2.5, 0.2, 3, seed=4)
    part = ising.sweep(ising.pack(spins[2:4], first_id=2), 2.5, 0.2, 3, seed=4)
    assert (part.words == whole.words[2:4]).all()
