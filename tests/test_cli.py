"""The command line: what it teaches, what it refuses, and data sets that no interruption changes."""

import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import SafetensorError

import hessfast
from hessfast import shards
from hessfast.cli import _job, main

# 30 shards each, made in milliseconds, so that writing is interrupted as often as sampling.
TASEP = ["sample", "tasep", "--num", "6000", "--shard-size", "200"]
ISING = ["sample", "ising", "--num", "1500", "--shard-size", "50", "--size", "32"]


# A process that has imported everything and computed nothing, and forks for every command it reads: importing numba
# takes a second, and twenty processes are wanted. A forked child starts its own threads, so it is like a fresh one.
FORKS = """
import json, os, signal, sys
import hessfast.kernels.tasep_sample.cpu
from hessfast import datasets, shards
from hessfast.ising import sampling
from hessfast.tasep import sampling
from hessfast.cli import _job, main
for line in sys.stdin:
    job = json.loads(line)
    if "wait" in job:
        print(os.waitstatus_to_exitcode(os.waitpid(job["wait"], 0)[1]), flush=True)
        continue
    child = os.fork()
    if child:
        print(child, flush=True)
        continue
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
    os.environ.update(job["environment"])
    sys.argv = ["hessfast", *job["arguments"]]
    for name, stream in (("out", 1), ("err", 2)):
        os.dup2(os.open(f"{job['log']}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    code = 1
    try:
        main()
    except SystemExit as stop:
        code = stop.code or 0
    finally:
        sys.stdout.flush()
        os._exit(code)
"""


class Forks:
    """Commands that run in processes of their own."""

    def __init__(self, folder):
        self.logs = (folder / str(number) for number in itertools.count())
        self.server = subprocess.Popen(
            [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **job):
        self.server.stdin.write(json.dumps(job) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())

    def start(self, *arguments, **environment):
        log = str(next(self.logs))
        return self.ask(arguments=[str(each) for each in arguments], environment=environment, log=log), log

    def wait(self, process):
        """Exit code (minus the signal if it was killed), stdout, stderr."""
        pid, log = process
        return self.ask(wait=pid), Path(f"{log}.out").read_text(), Path(f"{log}.err").read_text()

    def run(self, *arguments):
        return self.wait(self.start(*arguments))


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    forks = Forks(tmp_path_factory.mktemp("logs"))
    yield forks
    forks.server.communicate()


@pytest.fixture
def cli(capsys, monkeypatch):
    """Runs a command in this process; returns exit code, stdout, stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["hessfast", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code or 0, *capsys.readouterr()

    return run


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def num_sealed(folder):
    return len(list(folder.glob("*.done")))


def wait_for_seals(folder, num):
    end = time.monotonic() + 60
    while num_sealed(folder) < num:
        assert time.monotonic() < end, "nothing is being sealed"
        time.sleep(0.0005)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One uninterrupted run, in a process of its own from the very start."""
    folder = tmp_path_factory.mktemp("made") / "tasep"
    command = [sys.executable, "-m", "hessfast", *TASEP, "--out", folder]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert "6,000 samples of tasep in 30 shards, all sealed" in result.stdout and "exact" in result.stdout
    return folder


@pytest.fixture
def copy(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "copy"))


# --------------------------------------------------------------------------------------------------------------- help


def test_help_teaches(cli):
    code, out, _ = cli("--help")
    assert code == 0
    for phrase in ("sample ising", "sample tasep", "--dry-run", "torchrun", "resume", "export", "shards.open"):
        assert phrase in out
    for command in ("sample ising", "sample tasep", "resume", "verify", "export"):
        code, out, _ = cli(*command.split(), "--help")
        assert code == 0 and "Usage: hessfast" in out


def test_every_example_of_the_help_is_a_command_that_exists(cli):
    """Each is taken from the text and run as --help, with its options checked against that help."""
    _, text, _ = cli("--help")
    examples = re.findall(r"^ +(?:torchrun \S+ -m )?hessfast ([a-z].*)$", text, flags=re.M)
    assert len(examples) >= 8
    commands = {
        "sample", "ising", "tasep", "resume", "verify", "export", "reproduce", "diffusability", "slice", "demo"
    }  # fmt: skip
    for example in examples:
        words = example.split()
        verbs = [word for word in words if word in commands]
        code, out, _ = cli(*verbs, "--help")
        assert code == 0 and all(option in out for option in words if option.startswith("--"))


def test_help_is_quick_and_loads_nothing_heavy():
    script = (
        "import sys; sys.argv = ['hessfast', '--help']\n"
        "from hessfast.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'numpy', 'numba', 'torch', 'scipy', 'triton', 'cupy', 'rich'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_version_names_packages_and_devices(cli):
    code, out, _ = cli("--version")
    lines = dict(line.split(" ", 1) for line in out.splitlines())
    assert code == 0 and lines["hessfast"] == hessfast.__version__ and lines["numpy"] == np.__version__
    assert lines["python"] == sys.version.split()[0]
    assert set(lines) == {"hessfast", "python", "numpy", "numba", "torch", "triton", "cupy", "cpu", "cuda"}
    assert f"{len(os.sched_getaffinity(0))} cores" in lines["cpu"]


# -------------------------------------------------------------------------------------------------------------- errors


NO_DATA_SET = "{} holds no data set: it has no plan.json. Name a folder that hessfast sample or shards.fill has made."


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ("sample ising --out {} --size 7", 2, "size must be even for a checkerboard, got 7. Use 6 or 8."),
        ("sample ising --out {} --temperature 0 5", 2, "temperature must be > 0, got 0.0."),
        (
            "sample ising --out {} --temperature nan 5",
            2,
            "temperature must be finite, got nan.",
        ),
        ("sample ising --out {} --method magic", 2, "method must be one of auto, cftp, fk-cftp, mcmc, got 'magic'."),
        ("sample ising --out {} --num 0", 2, "num must be >= 1, got 0."),
        ("sample ising --out {} --device tpu", 2, 'device must be "cpu", "cuda" or "cuda:N", got \'tpu\'.'),
        ("sample tasep --out {} --entry-rate 0.5 2", 2, "entry_rate must be within (0, 1], got 0.5 to 2."),
        ("resume {}", 2, NO_DATA_SET),
        ("verify {}", 2, NO_DATA_SET),
        ("export {} --out {}", 2, NO_DATA_SET),
    ],
)
def test_bad_input_is_one_sentence(cli, tmp_path, arguments, code, sentence):
    folder = tmp_path / "absent"
    got = cli(*[word.replace("{}", str(folder)) for word in arguments.split()])
    assert got == (code, "", f"hessfast: {sentence.replace('{}', str(folder))}\n")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            ArithmeticError("learning_rate must let the fit converge, got 9."),
            "learning_rate must let the fit converge, got 9.",
        ),
        (MemoryError(), "Out of memory."),
        (MemoryError("Unable to allocate 9 TiB"), "Unable to allocate 9 TiB."),
        (SafetensorError("header too large"), "A safetensors file is damaged: header too large."),
    ],
)
def test_failures_are_one_sentence(cli, tmp_path, monkeypatch, error, sentence):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("hessfast.reproduce.run", fail)
    assert cli("reproduce", "ising", "--out", tmp_path) == (1, "", f"hessfast: {sentence}\n")


def test_usage_errors_go_to_stderr(cli):
    for arguments in (["sample", "ising"], ["sample", "ising", "--nonsense"], ["nonsense"], ["verify"]):
        code, out, err = cli(*arguments)
        assert code == 2 and out == "" and "Error" in err and "Traceback" not in err


def test_no_cuda_device_is_said_before_anything_is_written(cli, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, out, err = cli("sample", "tasep", "--out", tmp_path / "x", "--device", "cuda")
    assert code == 1 and out == "" and err.count("\n") == 1 and 'use device="cpu"' in err
    assert not (tmp_path / "x").exists()


def test_an_unwritable_folder(cli, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, err = cli("sample", "tasep", "--num", 10, "--out", tmp_path / "file")
    assert (
        code == 1 and out == "" and err.count("\n") == 1 and f"{tmp_path / 'file'} must be a folder that can be" in err
    )


def test_too_little_room_is_said_before_the_work(cli, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    code, out, err = cli("sample", "tasep", "--num", 10_000, "--out", tmp_path / "x")
    assert code == 1 and out == "" and re.search(r"needs 20\.\d MB more, but 1 MB are free there", err)
    assert not (tmp_path / "x").exists()


def test_another_plan_is_refused(cli, copy):
    before = contents(copy)
    code, _, err = cli(*TASEP, "--seed", 1, "--exit-rate", 0.5, 1, "--out", copy)
    assert (
        code == 2 and "parameters.seed (0, not 1)" in err and "parameters.exit_rate ([0.0, 1.0], not [0.5, 1.0])" in err
    )
    assert contents(copy) == before


# ------------------------------------------------------------------------------------------------------------ commands


def test_dry_run_writes_nothing(cli, tmp_path, monkeypatch):
    monkeypatch.setattr("hessfast.cli._job.PILOT_SECONDS", 0.01)
    code, out, _ = cli("sample", "tasep", "--num", 20_000, "--out", tmp_path / "x", "--dry-run")
    assert code == 0 and not (tmp_path / "x").exists()
    assert re.search(r"20,000 samples in 3 shards of 8,192", out)
    assert re.search(r"to make: 3 shards, 41\.\d MB in .*, where .* are free", out)
    assert re.search(r"time: about [\d.]+ (s|min) by 1 process", out)


def test_dry_run_times_shards_of_any_size(cli, tmp_path, monkeypatch):
    monkeypatch.setattr("hessfast.cli._job.PILOT_SECONDS", 0.01)
    for num, shard_size in ((10_000, 64), (10_000, 1), (3, 8192)):
        code, out, _ = cli("sample", "tasep", "--num", num, "--shard-size", shard_size, "--out", tmp_path, "--dry-run")
        (seconds,) = re.findall(r"time: about ([\d.e-]+) ", out)
        assert code == 0 and float(seconds) > 0


def test_a_forecast_is_of_the_missing_shards_and_of_the_processes(monkeypatch, capsys):
    plan, clock = SimpleNamespace(num=400, shard_size=100, num_shards=4, name="x", hash="h"), [0.0]

    def make(start, stop):
        assert 0 < stop - start <= 100 and stop <= 400
        clock[0] += 0.01 * (stop - start)

    monkeypatch.setattr(_job.time, "perf_counter", lambda: clock[0])
    _job._forecast(plan, Path("out"), make, 1000, 2000, 2, "cpu", 4)
    assert "about 0.5 s by 4 process(es) on cpu (228 took 2.28 s)" in capsys.readouterr().out  # 64, 64, 100


def test_what_is_sealed_takes_no_room(cli, copy):
    plan = shards.read_plan(copy)
    next(copy.glob("*.done")).unlink()
    code, out, _ = cli("resume", copy, "--dry-run")
    assert code == 0 and f"to make: 1 shards, {_job.size(plan.num_bytes // plan.num_shards)} in" in out


def test_dry_run_refuses_what_the_run_would_refuse(cli, copy):
    code, out, err = cli(*TASEP, "--seed", 1, "--out", copy, "--dry-run")
    assert code == 2 and out == "" and "parameters.seed (0, not 1)" in err


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.032, "0.032 s"), (58.4, "58 s"), (90, "1.5 min"), (5400, "1.5 h"), (1e6, "12 days")]
)
def test_durations_in_words(seconds, words):
    assert _job.duration(seconds) == words


@pytest.mark.parametrize(
    ("num", "words"),
    [(0, "0 B"), (999, "999 B"), (999.6e3, "1 MB"), (1.12e9, "1.12 GB"), (35.4e9, "35.4 GB"), (4e15, "4e+03 TB")],
)
def test_sizes_in_words(num, words):
    assert _job.size(num) == words


def test_verify_and_resume(cli, copy, made):
    code, out, _ = cli("verify", copy)
    assert code == 0 and "all 30 shards are whole, 6,000 samples of tasep" in out
    damaged = bytearray((copy / "00007.safetensors").read_bytes())
    damaged[1000] ^= 16
    (copy / "00007.safetensors").write_bytes(damaged)
    (copy / "00011.done").unlink()
    code, out, err = cli("verify", copy)
    assert code == 1 and "2 of 30 shards are missing or damaged (7, 11)" in err and f"hessfast resume {copy}" in err
    code, _, err = cli("export", copy, "--out", copy)
    assert code == 2 and "2 of its 30 shards are missing or broken" in err
    code, _, err = cli("resume", copy)
    assert code == 0 and contents(copy) == contents(made)


def test_verify_of_a_store_that_resume_cannot_make(cli, tmp_path):
    plan = shards.Plan("toy", 4, 2, {"x": ("int64", ())})
    shards.fill(tmp_path, plan, lambda start, stop: {"x": np.arange(start, stop)})
    (tmp_path / "00001.done").unlink()
    code, _, err = cli("verify", tmp_path)
    assert code == 1 and err.endswith("Make them with the command that began it.\n")


def test_an_export_into_a_file(cli, made, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = cli("export", made, "--out", tmp_path / "file")
    assert (code, err) == (1, f"hessfast: {tmp_path / 'file'} must be a folder that can be written; choose another.\n")


def test_export(cli, made, tmp_path):
    code, out, _ = cli("export", made, "--format", "npy", "--out", tmp_path)
    assert code == 0 and len(out.splitlines()) == 2
    assert np.load(tmp_path / "tasep_states.npy", mmap_mode="r").shape == (6000, 128, 128)
    code, _, err = cli("export", made, "--format", "csv", "--out", tmp_path)
    assert code == 2 and "format must be one of npy, got 'csv'" in err


# ------------------------------------------------------------------------------------- interruption, many processes


@pytest.mark.parametrize("command", [TASEP, pytest.param(ISING, marks=pytest.mark.slow)], ids=["tasep", "ising"])
def test_killed_ten_times_the_bytes_are_those_of_an_uninterrupted_run(tmp_path, forks, command):
    """SIGKILL at random moments, each after a shard or two more have been sealed and before the last one is."""
    command = [*command, "--shard-size", "25"]  # many shards: a slow watcher must not find it finished
    folder, moments, sealed = tmp_path / "x", random.Random(0), 0
    for _ in range(10):
        process = forks.start(*command, "--out", folder)
        goal = sealed + moments.randrange(1, 3)
        wait_for_seals(folder, goal)
        time.sleep(moments.uniform(0, 0.02))
        os.kill(process[0], signal.SIGKILL)
        assert forks.wait(process)[0] == -signal.SIGKILL  # it had not finished by itself
        assert num_sealed(folder) >= goal  # and nothing sealed is ever lost
        sealed = num_sealed(folder)
    assert sealed >= 10
    assert forks.run("resume", folder)[0] == 0
    assert forks.run(*command, "--out", tmp_path / "uninterrupted")[0] == 0
    assert contents(folder) == contents(tmp_path / "uninterrupted")


@pytest.mark.parametrize("world_size", [2, 3])
def test_world_size_cannot_be_seen(tmp_path, made, forks, world_size):
    """The processes that torchrun would start, with its environment."""
    world = {"WORLD_SIZE": str(world_size), "LOCAL_WORLD_SIZE": str(world_size)}
    ranks = [forks.start(*TASEP, "--out", tmp_path, RANK=str(r), LOCAL_RANK=str(r), **world) for r in range(world_size)]
    ends = [forks.wait(rank) for rank in ranks]
    assert [(code, err) for code, _, err in ends] == [(0, "")] * world_size
    assert "all sealed" in ends[0][1] and all(out == "" for _, out, _ in ends[1:])
    assert contents(tmp_path) == contents(made)


def test_ranks_share_the_cores(monkeypatch):
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    for processes, threads in ((1, None), (3, "5"), (99, "1")):
        monkeypatch.setenv("NUMBA_NUM_THREADS", "")
        monkeypatch.delenv("NUMBA_NUM_THREADS")
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        _job._share_threads()
        assert os.environ.get("NUMBA_NUM_THREADS") == threads


@pytest.mark.slow
def test_torchrun(tmp_path, made):
    pytest.importorskip("torch")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "hessfast"]
    arguments = [word.replace("--num", "-n") for word in TASEP]
    subprocess.run([*command, *arguments, "--out", tmp_path / "x"], check=True, capture_output=True)
    assert contents(tmp_path / "x") == contents(made)


def test_ctrl_c_says_how_to_go_on(tmp_path, forks):
    folder = tmp_path / "x"
    process = forks.start("sample", "tasep", "--num", 1_000_000, "--shard-size", 200, "--out", folder)
    wait_for_seals(folder, 2)
    os.kill(process[0], signal.SIGINT)
    sentence = f"hessfast: Interrupted; what is sealed stays. Go on with: hessfast resume {folder}.\n"
    assert forks.wait(process) == (130, "", sentence)
    assert len(shards.open(folder, partial=True, verify=True).shards) >= 2
    assert len(list(folder.glob("*.tmp"))) <= 1  # the interrupt may strike where the last one is being removed


def test_a_full_disk_ends_in_a_sentence(tmp_path, made, cli, monkeypatch):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        usage = shutil.disk_usage(tmp_path)._replace(free=10**12)
        with monkeypatch.context() as room:  # there is room when it begins, and others write in the meantime
            room.setattr(shutil, "disk_usage", lambda path: usage)
            code, out, err = cli(*TASEP, "--out", tmp_path / "x")
        assert (code, out, err.count("\n")) == (1, "", 1)
        match = re.search(
            r"The disk of .* is full: (\d+) of 30 shards are sealed and stay. Free [\d,]+ bytes and run", err
        )
        assert match and len(shards.open(tmp_path / "x", partial=True, verify=True).shards) == int(match[1]) > 2
        subprocess.run(["mount", "-o", "remount,size=32m", tmp_path], check=True)
        assert cli("resume", tmp_path / "x")[0] == 0
        assert contents(tmp_path / "x") == contents(made)
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)
