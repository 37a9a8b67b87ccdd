"""``hessfast --version``: what a bug report needs, versions and devices."""

import os
import platform
from importlib import metadata
from pathlib import Path

import typer

PACKAGES = {
    "numpy": ["numpy"],
    "numba": ["numba"],
    "torch": ["torch"],
    "triton": ["triton"],
    "cupy": ["cupy-cuda12x", "cupy-cuda13x", "cupy"],
}
SIMD = ("avx512f", "avx2", "avx", "sse4_2", "asimd")  # widest first


def show(wanted: bool) -> None:
    if not wanted:
        return
    from hessfast import __version__

    typer.echo(f"hessfast {__version__}\npython {platform.python_version()}")
    for name, distributions in PACKAGES.items():
        typer.echo(f"{name} {next(filter(None, map(_version, distributions)), 'absent')}")
    typer.echo(f"cpu {_cpu()}")
    for line in _cuda():
        typer.echo(f"cuda {line}")
    raise typer.Exit()


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    """Model, cores this process may use, widest vector instructions."""
    fields = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip().lower(), value.strip())
    except OSError:
        pass
    flags = (fields.get("flags") or fields.get("features") or "").split()
    simd = next((name for name in SIMD if name in flags), "no known SIMD")
    return f"{fields.get('model name', platform.machine())}, {len(os.sched_getaffinity(0))} cores, {simd}"


def _cuda() -> list[str]:
    try:
        import torch
    except ImportError:
        return ["unknown: torch is absent"]
    if not torch.cuda.is_available():
        return ["no device"]
    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [
        f"{i}: {each.name}, {each.total_memory / 2**30:.0f} GiB, sm_{each.major}{each.minor}"
        for i, each in enumerate(found)
    ]
