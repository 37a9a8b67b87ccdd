"""The store: right bytes whatever interrupts, damages or shares it; arrays that read like NumPy's."""

import contextlib
import errno
import hashlib
import json
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from hessfast import _atomic, shards
from hessfast.shards._fill import _told_in_time

PLAN = shards.Plan(
    "toy",
    num=50,
    shard_size=8,
    arrays={"words": ("uint64", (3, 2)), "label": ("float64", ()), "code": ("uint8", ()), "image": ("float16", (5,))},
    parameters={"seed": 0, "range": (1.0, 5.0)},
)


def make(start, stop):
    """Values that are computed from the sample id alone, and that no other id has."""
    ids = np.arange(start, stop)
    words = (
        (ids[:, None].astype(np.uint64) << np.uint64(60))
        + np.arange(6, dtype=np.uint64)
        + ids[:, None].astype(np.uint64)
    )
    return {
        "words": words.reshape(-1, 3, 2),
        "label": ids / 7,
        "code": (ids % 251).astype(np.uint8),
        "image": (ids[:, None] + np.arange(5) / 8).astype(np.float16),
    }


WHOLE = make(0, PLAN.num)


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("filled") / "new" / "deep"
    shards.fill(folder, PLAN, make)
    return folder


@pytest.fixture
def copy(filled, tmp_path):
    return Path(shutil.copytree(filled, tmp_path / "copy"))


# ------------------------------------------------------------------------------------------------------------- reading


def test_arrays_hold_what_was_made(filled):
    store = shards.open(filled)
    assert list(store) == list(PLAN.arrays) and len(store) == 4 and "words" in store and "other" not in store
    assert store.plan == PLAN and (store.ids == np.arange(50)).all()
    for name, expected in WHOLE.items():
        array = store[name]
        assert (array.shape, array.dtype, array.ndim, array.size, array.nbytes, len(array)) == (
            expected.shape,
            expected.dtype,
            expected.ndim,
            expected.size,
            expected.nbytes,
            len(expected),
        )
        np.testing.assert_array_equal(np.asarray(array), expected)
        np.testing.assert_array_equal(np.concatenate(list(array.blocks())), expected)
        np.testing.assert_array_equal(np.stack(list(array)), expected)
    assert np.asarray(store["code"], dtype=np.int32).dtype == np.int32
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":  # before, copy=False was a wish
        with pytest.raises(ValueError, match="must be copied"):
            np.array(store["code"], copy=False)


@pytest.mark.parametrize(
    "index",
    [
        0,
        -1,
        np.int64(49),
        slice(None),
        slice(3, 5),
        slice(6, 19),
        slice(-9, None),
        slice(40, 2, -7),
        slice(8, 8),
        slice(100, 200),
        [],
        [49, 0, 8, 8, -50],
        [0, 40, 1],
        np.array([[7, 8], [9, 7]]),
        np.arange(50) % 3 == 1,
        np.zeros(50, bool),
        (slice(2, 30, 9), 1),
        (slice(2, 30), slice(None), 0),
        ([1, 20, 33], 2, slice(0, 1)),
        (..., 1),
        (17, ..., 0),
        (np.array([[1, 40]]), ..., 1),
        np.array([5], dtype=np.uint64),
    ],
)
def test_indexing_is_numpys(filled, index):
    array, expected = shards.open(filled)["words"][index], WHOLE["words"][index]
    np.testing.assert_array_equal(array, expected)
    assert type(array) is type(expected) and array.dtype == expected.dtype


def test_comparisons_are_numpys(filled):
    words, expected = shards.open(filled)["words"], WHOLE["words"]
    for other in (expected[0, 0], expected, words):
        np.testing.assert_array_equal(words == other, expected == np.asarray(other))
        np.testing.assert_array_equal(words != other, expected != np.asarray(other))
    with pytest.raises(TypeError, match="unhashable"):
        hash(words)


def test_stores_are_equal_to_themselves_alone(filled):
    one, other = shards.open(filled), shards.open(filled)
    assert one == one and one != other and len({one, other}) == 2


def test_a_relative_path_is_the_same_from_everywhere(tmp_path, monkeypatch):
    """A store that is opened there, and one that is filled by what leaves for elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)

    def leaving(start, stop):
        os.chdir(tmp_path / "elsewhere")
        return make(start, stop)

    made = shards.fill("x", PLAN, leaving)
    monkeypatch.chdir(tmp_path)
    store = shards.open("x")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert contents(tmp_path / "elsewhere") == {}
    for each in (made, store):
        np.testing.assert_array_equal(each["words"][:], WHOLE["words"])
        assert each.broken() == []


def test_scalars_and_writable_copies(filled):
    store = shards.open(filled)
    assert store["label"][7] == 1.0 and isinstance(store["label"][7], np.float64)
    piece = store["words"][0:4]
    piece[:] = 0
    assert not next(store["words"].blocks()).flags.writeable
    np.testing.assert_array_equal(store["words"][0:4], WHOLE["words"][0:4])


def test_stores_and_arrays_travel_to_other_processes(filled):
    store = pickle.loads(pickle.dumps(shards.open(filled)))
    np.testing.assert_array_equal(store["words"][:], WHOLE["words"])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store["label"]))[:], WHOLE["label"])
    with pytest.raises(KeyError, match="has no array 'wrong'; it has words, label, code, image"):
        store["wrong"]


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (50, IndexError, r"must be in \[-50, 50\), got 50"),
        ([0, -51], IndexError, r"must be in \[-50, 50\)"),
        (np.ones(49, bool), IndexError, r"mask must have shape \(50,\), got \(49,\)"),
        (1.5, TypeError, "must hold integers or booleans, got dtype float64"),
        ((0, [1, 2]), TypeError, "Only integers, slices and ..."),
    ],
)
def test_wrong_indices_are_refused(filled, index, error, message):
    with pytest.raises(error, match=message):
        shards.open(filled)["words"][index]


def test_shards_are_plain_safetensors_with_a_sha256_seal(filled):
    """A reader that knows nothing of this package must see the same numbers."""
    from safetensors.numpy import load_file

    for name, array in load_file(filled / "00006.safetensors").items():
        np.testing.assert_array_equal(array, WHOLE[name][48:])
    seal = json.loads((filled / "00006.done").read_text())
    content = (filled / "00006.safetensors").read_bytes()
    assert seal == {"plan": PLAN.hash, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert sorted(contents(filled)) == sorted(
        ["plan.json"] + [f"{i:05d}.{kind}" for i in range(7) for kind in ("done", "safetensors")]
    )


def test_many_shards_need_few_file_descriptors(tmp_path):
    plan = shards.Plan("many", 200, 1, {"x": ("int64", ())})
    store = shards.fill(tmp_path, plan, lambda start, stop: {"x": np.arange(start, stop)})
    before = len(os.listdir("/proc/self/fd"))
    np.testing.assert_array_equal(store["x"][:], np.arange(200))
    assert len(os.listdir("/proc/self/fd")) - before <= 130


# ---------------------------------------------------------------------------------------------------------------- plan


def test_plan_hash_changes_with_every_field():
    fields = PLAN.to_dict()
    changed = [
        fields | {"name": "other"},
        fields | {"num": 51},
        fields | {"shard_size": 9},
        fields | {"arrays": {**fields["arrays"], "code": ("int8", ())}},
        fields | {"parameters": {**fields["parameters"], "seed": 1}},
    ]
    assert len({shards.Plan.from_dict(each).hash for each in [fields, *changed]}) == 6
    assert shards.Plan.from_dict(json.loads(json.dumps(fields))) == PLAN
    assert PLAN.num_shards == 7 and PLAN.bounds(6) == (48, 50) and PLAN.num_bytes == 50 * (48 + 8 + 1 + 10)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"num": 0}, ValueError, "num must be >= 1, got 0"),
        ({"shard_size": 2.0}, TypeError, "shard_size must be an integer, got 2.0"),
        ({"arrays": {}}, ValueError, "must name at least one array"),
        ({"arrays": {"x": ("complex64", ())}}, ValueError, r"arrays\['x'\] must have one of the dtypes .*complex64"),
        ({"arrays": {"x": "int64"}}, TypeError, r"arrays\['x'\] must be \(dtype, shape of one sample\), got 'int64'"),
        ({"arrays": {"x": ("int8", 3.0)}}, TypeError, r"arrays\['x'\] must be \(dtype, shape .*, got \('int8', 3.0\)"),
        (
            {"arrays": {"x": (dict, ())}},
            ValueError,
            r"arrays\['x'\] must have one of the dtypes .*, got <class 'dict'>",
        ),
        ({"arrays": {"x": ("int8", (0,))}}, ValueError, "shape of x must be >= 1, got 0"),
        ({"parameters": {"x": float("nan")}}, TypeError, "parameters must be what JSON can hold"),
        ({"parameters": {"x": object()}}, TypeError, "parameters must be what JSON can hold"),
        ({"parameters": {"x": np.float32("nan")}}, TypeError, "parameters must be what JSON can hold"),
        ({"parameters": {"x": np.complex64(1)}}, TypeError, "parameters must be what JSON can hold"),
        ({"parameters": {"x": np.longdouble(1)}}, TypeError, "parameters must be what JSON can hold"),
    ],
)
def test_impossible_plans_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        shards.Plan.from_dict(PLAN.to_dict() | change)


def test_numpy_may_say_what_a_plan_says():
    """Its hash is that of the same in Python's words, pinned: stores that were begun with it must be found again."""
    parameters = {"seed": 1, "T": 0.5, "flag": True, "range": [1.0, 2.0]}
    plain = shards.Plan("toy", 10, 4, {"x": ("float32", (4,)), "y": ("int64", ())}, parameters)
    text = (
        '{"arrays":{"x":["float32",[4]],"y":["int64",[]]},"name":"toy","num":10,'
        '"parameters":{"T":0.5,"flag":true,"range":[1.0,2.0],"seed":1},"shard_size":4}'
    )
    assert plain.hash == hashlib.sha256(text.encode()).hexdigest()[:32]
    parameters = {"seed": np.int64(1), "T": np.float32(0.5), "flag": np.True_, "range": (np.float64(1), np.float16(2))}
    for dtype in (np.float32, np.dtype("float32")):
        plan = shards.Plan("toy", 10, 4, {"x": (dtype, np.int64(4)), "y": (int, ())}, parameters)
        assert plan == plain and plan.hash == plain.hash and type(plan.parameters["seed"]) is int


def test_what_is_no_plan_is_refused(tmp_path):
    with pytest.raises(TypeError, match="plan must be a Plan, got dict"):
        shards.fill(tmp_path, PLAN.to_dict(), make)  # pyright: ignore[reportArgumentType]


def test_another_plan_is_refused_and_the_fields_named(copy):
    before = contents(copy)
    other = shards.Plan("toy", 60, 8, PLAN.arrays, {"range": (1.0, 5.0), "seed": 1, "method": "x"})
    with pytest.raises(ValueError, match="holds another plan") as refusal:
        shards.fill(copy, other, make)
    for phrase in ("num (50, not 60)", "parameters.seed (0, not 1)", 'parameters.method (absent, not "x")'):
        assert phrase in str(refusal.value)
    assert "range" not in str(refusal.value) and "shard_size" not in str(refusal.value)
    assert contents(copy) == before


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ({"seed": 0.0}, "parameters.seed (0, not 0.0)"),
        ({"method": None}, "parameters.method (absent, not null)"),
        ({"options": {}}, "parameters.options (absent, not {})"),
        ({"range": [1, 5]}, "parameters.range ([1.0, 5.0], not [1, 5])"),
    ],
)
def test_whatever_changes_the_hash_is_another_plan(copy, change, phrase):
    before = contents(copy)
    with pytest.raises(shards.OtherPlanError, match=re.escape(phrase)):
        shards.fill(copy, shards.Plan.from_dict(PLAN.to_dict() | {"parameters": PLAN.parameters | change}), make)
    assert contents(copy) == before


@pytest.mark.parametrize("wrong", ["dtype", "length", "missing", "extra"])
def test_what_was_not_planned_is_refused(tmp_path, wrong):
    def wrong_make(start, stop):
        made = make(start, stop)
        if wrong == "dtype":
            made["code"] = made["code"].astype(np.int8)
        elif wrong == "length":
            made["code"] = made["code"][1:]
        elif wrong == "missing":
            del made["code"]
        else:
            made["more"] = made["code"]
        return made

    with pytest.raises(ValueError, match=r"make\(0, 8\) must return"):
        shards.fill(tmp_path, PLAN, wrong_make)
    assert sorted(contents(tmp_path)) == ["plan.json"]


def test_arrays_that_are_not_contiguous_are_stored_right(tmp_path):
    plan = shards.Plan("turned", 6, 6, {"x": ("int64", (4,))})
    values = np.arange(24).reshape(4, 6).T
    np.testing.assert_array_equal(shards.fill(tmp_path, plan, lambda start, stop: {"x": values})["x"][:], values)


# ------------------------------------------------------------------------------------------------------ damage, resume


def counted(calls):
    def counting(start, stop):
        calls.append(start // PLAN.shard_size)
        return make(start, stop)

    return counting


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "bit flipped": lambda folder: flip(folder / "00002.safetensors"),
    "truncated": lambda folder: os.truncate(folder / "00002.safetensors", 100),
    "data lost": lambda folder: (folder / "00002.safetensors").unlink(),
    "seal lost": lambda folder: (folder / "00002.done").unlink(),
    "seal cut": lambda folder: os.truncate(folder / "00002.done", 20),
    "seal binary": lambda folder: (folder / "00002.done").write_bytes(b"\xff\x00"),
    "seal no object": lambda folder: (folder / "00002.done").write_text("[1]"),
    "seal of another plan": lambda folder: (folder / "00002.done").write_text(
        (folder / "00002.done").read_text().replace(PLAN.hash, "0" * 32)
    ),
    "garbage left by a crash": lambda folder: [
        (folder / "00002.done").unlink(),
        (folder / "00002.tmp").write_text("{" * 1000),
        (folder / "00002.safetensors").rename(folder / "00002.safetensors.tmp"),
        flip(folder / "00002.safetensors.tmp"),
    ],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_alone_is_made_again(copy, filled, damage):
    DAMAGE[damage](copy)
    assert shards.open(copy, partial=True, verify=True).shards == [0, 1, 3, 4, 5, 6]
    assert shards.open(copy, partial=True).broken() == [2]
    with pytest.raises(ValueError, match="must be complete to be read, but 1 of its 7 shards are missing or broken"):
        shards.open(copy, verify=True)
    calls = []
    shards.fill(copy, PLAN, counted(calls))
    assert calls == [2]
    assert contents(copy) == contents(filled)
    assert shards.open(copy).broken() == []


def test_only_a_checksum_finds_a_flipped_bit_and_its_repair_is_reported(copy, caplog):
    flip(copy / "00002.safetensors")
    assert shards.open(copy).shards == list(range(7))  # the cheap check: seal and size
    shards.fill(copy, PLAN, make)
    assert "Shard 2 of" in caplog.text and "made again" in caplog.text


def test_a_damaged_shard_is_not_taken_for_whole_when_its_repair_is_interrupted(copy):
    def interrupted(start, stop):
        raise KeyboardInterrupt

    flip(copy / "00002.safetensors")
    with pytest.raises(KeyboardInterrupt):
        shards.fill(copy, PLAN, interrupted)
    assert shards.open(copy, partial=True).shards == [0, 1, 3, 4, 5, 6]


def test_partial_stores_name_their_samples(copy):
    (copy / "00000.done").unlink()
    (copy / "00003.safetensors").unlink()
    with pytest.raises(ValueError, match=r"2 of its 7 shards.*partial=True"):
        shards.open(copy)
    store = shards.open(copy, partial=True)
    ids = [*range(8, 24), *range(32, 50)]
    np.testing.assert_array_equal(store.ids, ids)
    np.testing.assert_array_equal(store["words"][:], WHOLE["words"][ids])
    np.testing.assert_array_equal(store["label"][[0, 16, -1]], WHOLE["label"][[8, 32, 49]])
    for seal in copy.glob("*.done"):
        seal.unlink()
    empty = shards.open(copy, partial=True)
    assert empty["words"].shape == (0, 3, 2) and empty["words"][:].shape == (0, 3, 2) and empty.ids.size == 0


def test_an_interrupted_run_keeps_what_is_sealed(tmp_path, filled):
    def tired(start, stop):
        if start == 24:
            raise KeyboardInterrupt
        return make(start, stop)

    with pytest.raises(KeyboardInterrupt):
        shards.fill(tmp_path, PLAN, tired)
    assert shards.open(tmp_path, partial=True).shards == [0, 1, 2]
    assert not list(tmp_path.glob("*.tmp"))
    calls = []
    shards.fill(tmp_path, PLAN, counted(calls))
    assert calls == [3, 4, 5, 6] and contents(tmp_path) == contents(filled)


def test_folders_that_hold_no_store(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no data set: it has no plan\.json"):
        shards.open(tmp_path)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(FileNotFoundError, match="file holds no data set"):
        shards.open(file)
    for text in ("", "[]", '{"plan": {"name": "x"}}'):
        (tmp_path / "plan.json").write_text(text)
        with pytest.raises(ValueError, match="is damaged"):
            shards.open(tmp_path)
        with pytest.raises(ValueError, match="is damaged"):
            shards.fill(tmp_path, PLAN, make)


@pytest.mark.parametrize("damage", ["{", None])
def test_seals_say_whose_a_folder_without_a_plan_is(copy, filled, damage):
    path = copy / "plan.json"
    path.unlink() if damage is None else path.write_text(damage)
    before = contents(copy)
    other = shards.Plan("toy", 50, 8, PLAN.arrays, {"seed": 1})
    with pytest.raises(ValueError, match="is damaged" if damage else "holds shards of another plan, and no plan"):
        shards.fill(copy, other, never)
    assert contents(copy) == before
    shards.fill(copy, PLAN, never)
    assert contents(copy) == contents(filled)


def test_a_plan_of_a_newer_version_is_no_damage(copy):
    path = copy / "plan.json"
    fields = json.loads(path.read_text())
    other = shards.Plan("toy", 50, 8, PLAN.arrays, {"seed": 1})
    fields["plan"]["compression"], fields["made_by"]["hessfast"] = "zstd", "9.1"
    path.write_text(json.dumps(fields))
    for work in (shards.read_plan, lambda folder: shards.fill(folder, other, never)):
        with pytest.raises(ValueError, match=r"fields that this version knows, got compression of hessfast 9\.1\. Use"):
            work(copy)


# ----------------------------------------------------------------------------------------------------------- full disk


@contextlib.contextmanager
def small_disk(folder, size):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_that_is_full(tmp_path):
    plan = shards.Plan("big", 100, 10, {"x": ("uint8", (10_000,))})  # 100 kB a shard

    def make_big(start, stop):
        return {"x": np.repeat(np.arange(start, stop, dtype=np.uint8)[:, None], 10_000, axis=1)}

    with small_disk(tmp_path, "512k"):
        with pytest.raises(OSError, match=r"is full: 4 of 10 shards are sealed and stay. Free 600,000 bytes") as full:
            shards.fill(tmp_path, plan, make_big)
        assert full.value.errno == errno.ENOSPC
        assert not list(tmp_path.glob("*.tmp"))  # nothing half-written keeps the disk full
        assert shards.open(tmp_path, partial=True, verify=True).shards == [0, 1, 2, 3]
        subprocess.run(["mount", "-o", "remount,size=4m", tmp_path], check=True)
        store = shards.fill(tmp_path, plan, make_big)
        np.testing.assert_array_equal(store["x"][:, 0], np.arange(100))


@pytest.mark.parametrize("call", range(1, 31))  # two for the plan, four for each shard
def test_every_write_may_fail_for_lack_of_space(tmp_path, filled, monkeypatch, call):
    """The plan, each shard and each seal in turn meets the full disk; a rerun always gives the same folder."""
    sync, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, "No space left on device")
        return sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"The disk of .* is full: \d of 7 shards are sealed and stay"):
        shards.fill(tmp_path, PLAN, make)
    monkeypatch.undo()
    assert not list(tmp_path.glob("*.tmp"))
    shards.fill(tmp_path, PLAN, make)
    assert contents(tmp_path) == contents(filled)


def test_a_full_disk_elsewhere_is_not_blamed_on_the_folder(tmp_path):
    def full(start, stop):
        raise OSError(errno.ENOSPC, "No space left on device", "/elsewhere")

    with pytest.raises(OSError, match="No space left on device: '/elsewhere'"):
        shards.fill(tmp_path, PLAN, full)


def never(start, stop):
    raise AssertionError("the work began")


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_file_is_no_folder(tmp_path, where):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=f"{where} must be a folder that can be written; choose another"):
        shards.fill(tmp_path / where, PLAN, never)


@pytest.mark.parametrize("begun", [False, True])
def test_a_disk_that_cannot_be_written_is_refused_before_the_work(tmp_path, begun):
    with small_disk(tmp_path, "1m"):
        if begun:
            shards.fill(tmp_path, PLAN, make)
            (tmp_path / "00003.done").unlink()
        subprocess.run(["mount", "-o", "remount,ro", tmp_path], check=True)
        with pytest.raises(OSError, match="must be a folder that can be written; choose another"):
            shards.fill(tmp_path, PLAN, never)


def test_a_disk_without_locks_is_refused(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(_atomic.fcntl, "flock", no_locks)
    with pytest.raises(OSError, match="must offer file locks; choose a folder on another"):
        shards.fill(tmp_path, PLAN, make)


# ------------------------------------------------------------------------------------------------------- many processes


def filler(folder, rank, world_size, seconds=0.003):
    def slow(start, stop):
        time.sleep(seconds)
        return make(start, stop)

    shards.fill(folder, PLAN, slow, rank=rank, world_size=world_size)


def start_fillers(folder, ranks, world_size, **more):
    context = multiprocessing.get_context("fork")  # this process has no threads that matter to a store
    workers = [context.Process(target=filler, args=(folder, rank, world_size), kwargs=more) for rank in ranks]
    for worker in workers:
        worker.start()
    return workers


@pytest.mark.parametrize("world_size", [1, 2, 3, 9])
def test_the_number_of_processes_cannot_be_seen(tmp_path, filled, world_size):
    workers = start_fillers(tmp_path, range(world_size), world_size)
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert contents(tmp_path) == contents(filled)


def test_processes_that_never_start_are_not_missed(tmp_path, filled):
    (worker,) = start_fillers(tmp_path, [1], 3)
    worker.join()
    assert worker.exitcode == 0 and contents(tmp_path) == contents(filled)


def test_two_runs_in_one_folder_share_the_work(tmp_path, filled):
    """Threads have the same process id, so this also holds the claim to be the open file's."""
    calls = []
    threads = [
        threading.Thread(
            target=lambda: shards.fill(tmp_path, PLAN, lambda a, b: (time.sleep(0.01), counted(calls)(a, b))[1])
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(calls) == list(range(7))  # nothing made twice
    assert contents(tmp_path) == contents(filled)


def test_a_process_begins_with_its_own_share(tmp_path):
    calls = []
    shards.fill(tmp_path, PLAN, counted(calls), rank=1, world_size=3)
    assert calls == [1, 4, 2, 5, 0, 3, 6]


def test_a_survivor_takes_over_the_shard_of_the_dead(tmp_path, filled):
    (victim,) = start_fillers(tmp_path, [0], 1, seconds=60.0)
    while not (tmp_path / "00000.tmp").exists():
        time.sleep(0.001)
    time.sleep(0.05)
    (survivor,) = start_fillers(tmp_path, [1], 2)
    while len(list(tmp_path.glob("*.done"))) < 6:
        time.sleep(0.001)
    assert survivor.is_alive()  # waits for shard 0
    os.kill(victim.pid, signal.SIGKILL)
    survivor.join(20)
    victim.join()
    assert survivor.exitcode == 0 and contents(tmp_path) == contents(filled)


def test_a_child_of_the_dead_does_not_keep_its_shard(tmp_path, filled, monkeypatch, caplog):
    """The wait is said once, and ends with the parent though what it has forked lives on."""

    def forking(folder):
        def work(start, stop):
            if os.fork() == 0:
                time.sleep(20)
                os._exit(0)
            (folder / "forked").touch()
            time.sleep(60)

        shards.fill(folder / "x", PLAN, work)

    victim = multiprocessing.get_context("fork").Process(target=forking, args=(tmp_path,))
    victim.start()
    while not (tmp_path / "forked").exists():
        time.sleep(0.001)
    monkeypatch.setattr("hessfast.shards._fill.PATIENCE", 0.2)
    threading.Timer(1.0, os.kill, (victim.pid, signal.SIGKILL)).start()
    start = time.monotonic()
    shards.fill(tmp_path / "x", PLAN, make)
    victim.join()
    assert time.monotonic() - start < 15
    assert [each.getMessage() for each in caplog.records] == [
        f"Waiting for another process that makes shard 0 of {tmp_path / 'x'}."
    ]
    assert contents(tmp_path / "x") == contents(filled)


def test_a_short_wait_is_not_told(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("hessfast.shards._fill.PATIENCE", 0.05)
    with _told_in_time(tmp_path, 0):
        pass
    time.sleep(0.1)
    assert not caplog.records


def test_killed_at_any_moment(tmp_path, filled):
    """Twenty runs of two processes, killed after random times; then one run completes the same bytes."""
    random = np.random.default_rng(0)
    for _ in range(20):
        workers = start_fillers(tmp_path, range(2), 2, seconds=0.02)
        time.sleep(random.uniform(0.0, 0.04))
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
            worker.join()
    store = shards.fill(tmp_path, PLAN, make)
    assert contents(tmp_path) == contents(filled) and store.broken() == []


def test_ranks_must_make_sense(tmp_path):
    with pytest.raises(ValueError, match="rank must be >= 0 and <= 1, got 2"):
        shards.fill(tmp_path, PLAN, make, rank=2, world_size=2)


def test_progress_counts_all_processes(copy, capsys, monkeypatch):
    import sys

    for shard in (1, 4):
        (copy / f"{shard:05d}.done").unlink()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    shards.fill(copy, PLAN, make, progress=True)
    shown = capsys.readouterr().err
    assert "toy" in shown and "40.0/50.0" in shown and "50.0/50.0" in shown
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    shards.fill(copy, PLAN, make, progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys, "stderr", None)  # as of 2>&-
    shards.fill(copy, PLAN, make, progress=True)


def test_a_plan_that_is_not_the_one_of_its_hash_is_damage(filled, tmp_path):
    """One digit of the seed: going on would make all shards anew, of other samples."""
    folder = shutil.copytree(filled, tmp_path / "copy")
    path = folder / "plan.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    for work in (shards.open, shards.read_plan):
        with pytest.raises(ValueError, match=r"plan\.json is damaged"):
            work(folder)


def test_writers_of_one_file_wait_for_each_other(tmp_path):
    """Every one of them ends well, and what stays is whole."""
    path, errors = tmp_path / "file", []

    def write(k):
        try:
            for _ in range(20):
                _atomic.write(path, [bytes([k]) * 1000, bytes([k]) * 1000])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and path.read_bytes() in [bytes([k]) * 2000 for k in range(4)]
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
