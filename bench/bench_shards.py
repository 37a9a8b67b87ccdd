"""The store at the size of one shard of the Ising data set: 8,192 samples of 2 kB, 17 MB."""

import itertools
import shutil

import numpy as np
import pytest

from hessfast import shards

PLAN = shards.Plan("words", 4 * 8192, 8192, {"words": ("uint64", (4, 64, 1)), "temperature": ("float64", ())})
BYTES = PLAN.num_bytes


@pytest.fixture(scope="module")
def data():
    words = np.random.default_rng(0).integers(0, 2**64, (PLAN.num, 4, 64, 1), np.uint64)
    return {"words": words, "temperature": np.arange(PLAN.num) / 7}


@pytest.fixture(scope="module")
def store(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    store = shards.fill(folder, PLAN, lambda start, stop: {name: array[start:stop] for name, array in data.items()})
    np.testing.assert_array_equal(store["words"][:], data["words"])
    return store


def test_fill(record_rate, data, tmp_path):
    """Checksum, write, sync and seal; the disk decides."""
    folders = (tmp_path / str(number) for number in itertools.count())

    def fill():
        folder = next(folders)
        shards.fill(folder, PLAN, lambda start, stop: {name: array[start:stop] for name, array in data.items()})
        shutil.rmtree(folder)

    record_rate(fill, work=BYTES, unit="bytes/ns")


def test_verify(record_rate, store):
    record_rate(lambda: store.broken() == [] or pytest.fail("broken"), work=BYTES, unit="bytes/ns")


def test_read_everything(record_rate, store):
    record_rate(lambda: store["words"][:], work=store["words"].nbytes, unit="bytes/ns")


def test_gather_500_random_samples(record_rate, store, data):
    """A batch of a training loop."""
    ids = np.random.default_rng(1).choice(PLAN.num, 500, replace=False)
    np.testing.assert_array_equal(store["words"][ids], data["words"][ids])
    record_rate(lambda: store["words"][ids], work=500, unit="us/sample")


def test_open(record_rate, store):
    """Cost of looking at the seals of one shard."""
    record_rate(lambda: shards.open(store.folder), work=PLAN.num_shards, unit="us/shard")
