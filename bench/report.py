"""Rates in the unit of the field, and the store of results: one JSON file per machine in bench/results."""

import datetime
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
PACKAGES = ("numpy", "numba", "torch", "triton", "cupy-cuda13x", "diffusers", "mcising", "dwave-samplers", "peapods")


def rate(unit: str, work: float, seconds: float) -> float:
    """`work` done in `seconds`, in `unit`.

    "flips/ns", "sites/s", ... is work per time, more is better; "us/sample", ... is time per work, less is better.
    With a last "/core" the seconds are those of the CPU, summed over threads.

    >>> rate("flips/ns/core", work=8e9, seconds=4.0)
    2.0
    >>> rate("us/sample", work=1000, seconds=0.04)
    40.0
    """
    above, below, *per_core = unit.split("/")
    if (above in SECONDS) == (below in SECONDS) or per_core not in ([], ["core"]):
        raise ValueError(f'unit must read "things/ns" or "us/thing", then at most "/core", got {unit!r}.')
    return work * SECONDS[below] / seconds if below in SECONDS else seconds / SECONDS[above] / work


def less_is_better(unit: str) -> bool:
    return unit.split("/")[0] in SECONDS


def goal_ratio(unit: str, value: float, goal: float) -> float:
    """How far beyond the goal: 1 meets it, 2 is twice as fast."""
    return goal / value if less_is_better(unit) else value / goal


def machine(device: str = "cpu") -> str:
    """The GPU's name, or the CPU's model name and its widest SIMD set."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"^model name\s*: (.*)$", text, re.M)
    flags = set((re.search(r"^(?:flags|Features)\s*: (.*)$", text, re.M) or [""])[0].split())
    widths = [name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("asimd", "NEON")) if flag in flags]
    name = model[1] if model else platform.processor() or platform.machine()
    return " ".join([re.sub(r"\((R|TM)\)|\bCPU\b|@.*", "", name).strip(), *widths[:1]])


def _git(*arguments: str) -> str:
    result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return result.stdout.strip() if result.returncode == 0 else ""


def provenance() -> dict:
    """When and with what a row was measured; a commit that ends in "+" had changes in the code."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": (_git("rev-parse", "--short", "HEAD") or "unknown")
        + ("+" if _git("status", "--porcelain", "--", "hessfast", "kernels") else ""),
        "python": platform.python_version(),
        **versions,
    }


def path_of(device: str = "cpu", folder: Path = RESULTS) -> Path:
    """The file of this machine."""
    return folder / (re.sub(r"[^a-z0-9]+", "-", machine(device).lower()).strip("-") + ".json")


def store(rows: dict[str, dict], device: str = "cpu", folder: Path = RESULTS) -> Path:
    """Merge `rows` (name -> {unit, rate, goal, ...}) into the file of this machine, newest row of a name wins."""
    name, path = machine(device), path_of(device, folder)
    known = json.loads(path.read_text())["rows"] if path.exists() else {}
    stamp = provenance()
    known.update({key: {**row, **stamp} for key, row in rows.items()})
    content = {"machine": name, "device": device.partition(":")[0], "rows": dict(sorted(known.items()))}
    folder.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    temporary.replace(path)
    return path


def table(rows: dict[str, dict]) -> str:
    """The rows as aligned text; "start-up" is what the first call took beyond a later one."""
    lines = [f"{'':40} {'median':>10} {'best':>10} {'unit':16} {'goal':>8} {'x goal':>7} {'start-up':>9}"]
    for name, row in rows.items():
        goal = row.get("goal")
        beyond = f"{goal:8.4g} {goal_ratio(row['unit'], row['rate'], goal):7.2f}" if goal else " " * 16
        start_up = f"{row['start_up_s']:7.2f} s" if "start_up_s" in row else ""
        lines.append(f"{name:40} {row['rate']:10.4g} {row['best']:10.4g} {row['unit']:16} {beyond} {start_up:>9}")
    return "\n".join(lines)
