"""The two data sets: parameters from the seed and the number of the sample alone, states that the samplers made."""

import errno
import importlib
import math
import subprocess
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from hessfast import _random, datasets, ising, shards, tasep
from hessfast.datasets import _plans
from hessfast.ising import _methods

ISING = datasets.ising_plan(60, size=12, shard_size=16, seed=5)
TASEP = datasets.tasep_plan(60, num_sites=100, shard_size=16, seed=5)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return {plan.name: shards.fill(folder / plan.name, plan, datasets.maker(plan)) for plan in (ISING, TASEP)}


# ---------------------------------------------------------------------------------------------------------- parameters


def test_keys_are_those_of_the_kernels():
    reference = importlib.import_module("hessfast.kernels._random.reference")
    branches = importlib.import_module("hessfast.kernels._random")
    ours = {name: getattr(_random, name) for name in ("PARAMETERS", "DIFFUSABILITY", "SLICES")}
    ours |= {"ISING_FLIP": _methods._ISING_FLIP, "ISING_MCMC": _methods._ISING_MCMC}
    assert ours == {name: getattr(branches, name) for name in ours}
    numbers = [value for name, value in vars(branches).items() if name.isupper() and name not in ("GOLDEN", "WARM_UP")]
    assert len(set(numbers)) == len(numbers)
    numbers = [0, 1, 2, 12345, 2**32, 2**63, 2**64 - 2, 2**64 - 1]
    keys, indices = np.meshgrid(np.array(numbers, np.uint64), np.array(numbers, np.uint64))
    expected = [reference.derive(int(key), int(index)) for key, index in zip(keys.flat, indices.flat, strict=True)]
    np.testing.assert_array_equal(_random.derive(keys, indices).ravel(), np.array(expected, np.uint64))
    assert _random.derive(2**64 - 1, 2**64 - 1)[0] == reference.derive(2**64 - 1, 2**64 - 1)


def test_uniform_covers_its_range():
    ends = _random.uniform(np.array([0, 2**11, 2**64 - 1], np.uint64))
    np.testing.assert_array_equal(ends, [0.0, 2.0**-53, 1 - 2.0**-53])


def test_parameters_are_uniform_and_independent():
    """20,000 draws: the marginals by Kolmogorov-Smirnov, pairs (this, other) and (this, next) by chi-squared."""
    first, second = _plans._draw(0, 0, 20_000)
    for values in (first, second):
        assert values.min() >= 0 and values.max() < 1
        assert stats.kstest(values, "uniform").pvalue > 1e-3
    for x, y in ((first, second), (first[:-1], first[1:]), (first[:-1], second[1:])):
        counts, *_ = np.histogram2d(x, y, bins=20, range=[[0, 1], [0, 1]])
        assert stats.chisquare(counts.ravel()).pvalue > 1e-3
    assert abs(np.corrcoef(first, _plans._draw(1, 0, 20_000)[0])[0, 1]) < 0.03


def test_parameters_are_functions_of_seed_and_id():
    whole = _plans._draw(7, 0, 1000)
    np.testing.assert_array_equal(_plans._draw(7, 313, 500), whole[:, 313:500])
    assert not (_plans._draw(8, 0, 1000) == whole).any()
    assert len(np.unique(whole)) == 2000


def test_ranges_are_kept_and_a_rate_is_never_zero():
    unit = np.array([0.0, 0.5, 1 - 2.0**-53])
    np.testing.assert_array_equal(_plans._from_low((1.0, 5.0), unit[:2]), [1.0, 3.0])
    for high in (1.0, 0.3, 0.9999999999999999, 1e-3):
        rates = _plans._from_high((0.0, high), unit)
        assert rates[0] == high and 0 < rates[2] <= 2e-16


# --------------------------------------------------------------------------------------------------------------- plans


@pytest.mark.parametrize(
    ("plan", "arguments", "error", "message"),
    [
        ("ising", {"size": 7}, ValueError, "size must be even for a checkerboard, got 7. Use 6 or 8"),
        ("ising", {"size": 0}, ValueError, "size must be >= 2, got 0"),
        ("ising", {"num": 0}, ValueError, "num must be >= 1, got 0"),
        ("ising", {"temperature": (0.0, 1.0)}, ValueError, "temperature must be > 0, got 0"),
        (
            "ising",
            {"temperature": (5.0, 1.0)},
            ValueError,
            r"temperature must be two ascending numbers, got \(5.0, 1.0\)",
        ),
        (
            "ising",
            {"field": (0.0, math.nan)},
            ValueError,
            "field must be finite, got nan",
        ),
        ("ising", {"method": "guess"}, ValueError, "method must be one of auto, cftp, fk-cftp, mcmc, got 'guess'"),
        ("ising", {"seed": -1}, ValueError, "seed must be >= 0"),
        ("ising", {"seed": 0.5}, TypeError, "seed must be an integer, got 0.5"),
        ("tasep", {"entry_rate": (0.0, 1.5)}, ValueError, r"entry_rate must be within \(0, 1\], got 0 to 1.5"),
        ("tasep", {"exit_rate": (-0.1, 1.0)}, ValueError, r"exit_rate must be within \(0, 1\], got -0.1 to 1"),
        ("tasep", {"exit_rate": (0.0, 1e-300)}, ValueError, "exit_rate must be in .* numbers lose digits"),
        ("tasep", {"exit_rate": (0.0, 0.0)}, ValueError, r"exit_rate must be within \(0, 1\], got 0 to 0"),
        ("ising", {"field": (1, 2, 3)}, ValueError, r"field must be two ascending numbers, got \(1, 2, 3\)"),
        ("ising", {"temperature": 1.0}, ValueError, "temperature must be two ascending numbers, got 1.0"),
        ("tasep", {"num_sites": 0}, ValueError, "num_sites must be >= 1 .*got 0"),
        ("tasep", {"num_sites": 2**30 + 1}, ValueError, "num_sites must be >= 1 and <= 1073741824, got 1073741825"),
        ("tasep", {"num_sites": 64.0}, TypeError, "num_sites must be an integer, got 64.0"),
        ("tasep", {"shard_size": 0}, ValueError, "shard_size must be >= 1, got 0"),
    ],
)
def test_impossible_data_sets_are_refused(plan, arguments, error, message):
    with pytest.raises(error, match=message):
        getattr(datasets, f"{plan}_plan")(**arguments)


def test_integers_of_numpy_make_the_same_plan():
    plan = datasets.tasep_plan(np.int64(60), num_sites=np.int32(100), shard_size=np.uint8(16), seed=np.uint64(5))
    assert plan == TASEP and plan.hash == TASEP.hash


def test_the_papers_data_sets_are_the_defaults():
    plan = datasets.ising_plan()
    assert (plan.num, plan.parameters["temperature"], plan.parameters["field"]) == (540_000, [1.0, 5.0], [-2.0, 2.0])
    assert plan.arrays["words"] == ("uint64", (4, 64, 1)) and plan.parameters["size"] == 128
    assert plan.num_bytes == 540_000 * (128 * 128 // 8 + 8 + 8 + 1)
    plan = datasets.tasep_plan()
    assert (plan.num, plan.parameters["num_sites"], plan.arrays["words"]) == (150_000, 16_384, ("uint64", (256,)))
    for plan in (datasets.ising_plan(), datasets.tasep_plan()):
        assert 10e6 < plan.num_bytes / plan.num * plan.shard_size < 50e6


def test_a_maker_refuses_plans_that_are_not_its_own():
    with pytest.raises(ValueError, match="plan must be of ising or tasep, got 'other'"):
        datasets.maker(shards.Plan("other", 1, 1, {"x": ("int8", ())}))
    old = ISING.to_dict() | {"parameters": ISING.parameters | {"revision": 0}}
    with pytest.raises(ValueError, match="of revision 1 for this version of hessfast, got 0"):
        datasets.maker(shards.Plan.from_dict(old))
    del old["parameters"]["revision"]
    with pytest.raises(ValueError, match="of revision 1 for this version of hessfast, got None"):
        datasets.maker(shards.Plan.from_dict(old))


# -------------------------------------------------------------------------------------------------------------- states


def test_ising_states_are_the_samplers(stores):
    store = stores["ising"]
    temperature, field = store["temperature"][:], store["field"][:]
    assert temperature.min() >= 1 and temperature.max() < 5 and field.min() >= -2 and field.max() < 2
    for ids in ([37], [15, 16], [59]):  # inside a shard, across two, at the end
        for i in ids:
            batch = ising.sample(temperature[i], field[i], 12, seed=5, first_id=i)
            np.testing.assert_array_equal(store["words"][i], batch.words.reshape(4, 6, 1))
            assert datasets.CERTIFICATES[store["certificate"][i]] == np.ravel(batch.certificate)[0]
    assert set(np.unique(store["certificate"][:])) <= {0, 1}  # exact, every one


def test_tasep_states_are_the_samplers(stores):
    store = stores["tasep"]
    entry_rate, exit_rate = store["entry_rate"][:], store["exit_rate"][:]
    assert (entry_rate > 0).all() and (exit_rate > 0).all() and max(entry_rate.max(), exit_rate.max()) <= 1
    for i in (0, 16, 59):
        chain = tasep.sample(entry_rate[i], exit_rate[i], 100, seed=5, first_id=i)
        np.testing.assert_array_equal(store["words"][i], chain.words.reshape(2))


@pytest.mark.parametrize("plan", [ISING, TASEP], ids=["ising", "tasep"])
def test_the_first_samples_of_a_large_data_set_are_the_small_one(tmp_path, stores, plan):
    small = shards.Plan.from_dict(plan.to_dict() | {"num": 23, "shard_size": 9})
    store = shards.fill(tmp_path, small, datasets.maker(small))
    for name in plan.arrays:
        np.testing.assert_array_equal(store[name][:], stores[plan.name][name][:23])


# -------------------------------------------------------------------------------------------------------------- export


def test_export_of_ising(stores, tmp_path):
    store = stores["ising"]
    written = datasets.export_npy(store, tmp_path / "new", targets=True)
    assert [path.name for path in written] == ["ising_states.npy", "ising_labels.npy", "ising_targets.npy"]
    states, labels, targets = (np.load(path) for path in written)
    assert (states.dtype, states.shape) == (np.int8, (60, 12, 12)) and set(np.unique(states)) == {-1, 1}
    # Site by site, from the documented layout: planes Be, Bo, We, Wo; black bit k of row i is column 2k + (i & 1).
    words = store["words"][:]
    for n, i, j in [(n, i, j) for n in (0, 31, 59) for i in range(12) for j in range(12)]:
        plane = (i & 1) if (i + j) % 2 == 0 else 2 + (i & 1)
        bit = (int(words[n, plane, i // 2, 0]) >> (j // 2)) & 1
        assert states[n, i, j] == 2 * bit - 1
    assert labels.dtype == np.float32
    np.testing.assert_array_equal(labels, np.stack([store["temperature"], store["field"]], 1).astype(np.float32))
    assert (targets.dtype, targets.shape) == (np.float32, (60, 128, 128))
    row, column = np.unravel_index(targets.reshape(60, -1).argmax(1), (128, 128))
    np.testing.assert_allclose(column / 127, (labels[:, 0] - 1) / 4, atol=0.5 / 127 + 1e-6)
    np.testing.assert_allclose(row / 127, (labels[:, 1] + 2) / 4, atol=0.5 / 127 + 1e-6)
    distance = np.hypot(40 / 127 - (labels[:, 1] + 2) / 4, 90 / 127 - (labels[:, 0] - 1) / 4)
    np.testing.assert_allclose(targets[:, 40, 90], np.exp(-0.5 * (50 * distance) ** 2), rtol=1e-3, atol=1e-7)


def test_targets_of_a_range_that_is_a_point_lie_at_its_edge(tmp_path):
    plan = datasets.ising_plan(1, temperature=(2.0, 2.0), size=4)
    store = shards.fill(tmp_path / "store", plan, datasets.maker(plan))
    targets = np.load(datasets.export_npy(store, tmp_path, targets=True)[2])
    assert np.unravel_index(targets[0].argmax(), (128, 128))[1] == 0 and targets.max() > 0.9


@pytest.mark.parametrize(("num_sites", "shape"), [(100, (10, 10)), (70, (70,))])
def test_export_of_tasep(tmp_path, num_sites, shape):
    plan = datasets.tasep_plan(9, num_sites=num_sites, shard_size=4)
    store = shards.fill(tmp_path / "store", plan, datasets.maker(plan))
    states, labels = (np.load(path) for path in datasets.export_npy(store, tmp_path))
    assert (states.dtype, states.shape) == (np.int8, (9, *shape))
    words = store["words"][:]
    expected = [[(int(row[site // 64]) >> (site % 64)) & 1 for site in range(num_sites)] for row in words]
    np.testing.assert_array_equal(states.reshape(9, -1), expected)
    np.testing.assert_array_equal(labels, np.stack([store["entry_rate"], store["exit_rate"]], 1).astype(np.float32))


def test_the_released_script_can_load_the_export(stores, tmp_path):
    """Its reading, in its own words: torch.Tensor of everything, a channel axis, bundles of states as channels."""
    torch = pytest.importorskip("torch")
    states, labels, targets = (np.load(path) for path in datasets.export_npy(stores["ising"], tmp_path, targets=True))
    x, parameters, y = torch.Tensor(states).unsqueeze(1), torch.Tensor(labels), torch.Tensor(targets).unsqueeze(1)
    assert x.dtype == parameters.dtype == y.dtype == torch.float32
    assert x[[3, 1, 4, 1]].reshape(4, 12, 12).abs().eq(1).all() and y[[3, 1]].mean(0).shape == (1, 128, 128)


def test_an_export_needs_little_memory(tmp_path):
    plan = datasets.tasep_plan(2000)  # 33 MB of states, 131 MB of targets
    zeros = shards.fill(
        tmp_path,
        plan,
        lambda start, stop: {
            name: np.zeros((stop - start, *shape), dtype) for name, (dtype, shape) in plan.arrays.items()
        },
    )
    tracemalloc.start()
    written = datasets.export_npy(zeros, tmp_path, targets=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6 < written[2].stat().st_size


def test_exports_that_are_refused(stores, tmp_path):
    other = shards.Plan("other", 1, 1, {"x": ("int8", ())})
    store = shards.fill(tmp_path / "other", other, lambda start, stop: {"x": np.zeros(1, np.int8)})
    with pytest.raises(ValueError, match="store must hold one of the data sets ising, tasep, got 'other'"):
        datasets.export_npy(store, tmp_path)
    partial = shards.Store(stores["ising"].folder, ISING, [0, 2])
    with pytest.raises(ValueError, match=r"store must be complete .* 32 of 60 samples"):
        datasets.export_npy(partial, tmp_path)


def test_an_export_onto_a_full_disk_leaves_nothing_half_written(stores, tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        with pytest.raises(OSError, match=r"is full: ising_targets\.npy needs 3,932,160 bytes") as full:
            datasets.export_npy(stores["ising"], tmp_path, targets=True)
        assert full.value.errno == errno.ENOSPC
        assert sorted(path.name for path in tmp_path.iterdir()) == ["ising_labels.npy", "ising_states.npy"]
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


# -------------------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("name", ["ising", "tasep"])
def test_batches_are_what_the_samplers_drew(stores, name):
    some = datasets.batch(stores[name], slice(20, 30))
    assert len(some) == 10 and (some.first_id, some.seed) == (20, 5)
    if name == "ising":
        again = ising.sample(some.temperature, some.field, 12, seed=5, first_id=20)
        np.testing.assert_array_equal(some.certificate, again.certificate)
    else:
        again = tasep.sample(some.entry_rate, some.exit_rate, 100, seed=5, first_id=20)
        np.testing.assert_array_equal(some.certificate, again.certificate)
    np.testing.assert_array_equal(some.words, again.words)
    assert len(datasets.batch(stores[name])) == 60
    picked = datasets.batch(stores[name], [29, 20, -60])
    np.testing.assert_array_equal(picked.words[:2], some.words[[9, 0]])
    assert (len(picked), picked.first_id) == (3, None)
    part = shards.Store(stores[name].folder, stores[name].plan, stores[name].shards[1:])  # as of one partly made
    start, _ = part.plan.bounds(1)
    np.testing.assert_array_equal(datasets.batch(part, [0]).words, stores[name]["words"][[start]])
    assert datasets.batch(part, [0]).first_id == start


def test_batches_of_other_stores_are_refused(tmp_path):
    plan = shards.Plan("toy", 1, 1, {"x": ("uint8", ())}, {})
    store = shards.fill(tmp_path, plan, lambda start, stop: {"x": np.zeros(stop - start, np.uint8)})
    with pytest.raises(ValueError, match="store must hold one of the data sets ising, tasep, got 'toy'"):
        datasets.batch(store)
