"""What an import loads, who imports whom, and that every public name is documented by text whose examples are true."""

import ast
import dataclasses
import doctest
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import hessfast

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ["numba", "torch", "triton", "cupy", "scipy", "numpy"]
LIGHT = ["hessfast.ising", "hessfast.posterior", "hessfast.tasep", "hessfast.shards", "hessfast.datasets"]
PUBLIC = [
    *LIGHT,
    "hessfast.derivatives",
    "hessfast.diffusability",
    "hessfast.geodesic",
    "hessfast.log_partition",
    "hessfast.potentials",
    "hessfast.reproduce",
    "hessfast.slices",
]
NO_EXAMPLE = {
    "assess",
    "clip_features",
    "compare",
    "table",
    "write_report",
}  # of whole runs, or of files from elsewhere


def modules():
    """Every module of hessfast outside kernels, by name."""
    found = pkgutil.walk_packages(hessfast.__path__, "hessfast.")
    return ["hessfast", *(m.name for m in found if not m.name.endswith("__main__"))]


def fresh(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def loaded_by(statement: str) -> tuple[float, set[str]]:
    code = (
        f"import json, sys, time; start = time.perf_counter(); {statement}; seconds = time.perf_counter() - start; "
        f"print(json.dumps([seconds, [name for name in {HEAVY} if name in sys.modules]]))"
    )
    seconds, names = json.loads(fresh(code))
    return seconds, set(names)


def test_import_loads_nothing_heavy():
    seconds, loaded = loaded_by("import hessfast")
    assert loaded == set()
    assert seconds < 1


@pytest.mark.parametrize("name", [*LIGHT, "hessfast.cli"])
def test_no_module_loads_a_compiler_or_torch_before_it_is_needed(name):
    assert not loaded_by(f"import {name}")[1] & {"numba", "torch", "triton", "cupy"}


def imported(path: Path):
    """Absolute names of what a file imports, wherever in it."""
    package = path.relative_to(ROOT).parent.parts
    package = ("hessfast", *package) if package[0] == "kernels" else package
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def imports(folder: str):
    """(file, module) of every import below a folder."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield from ((str(path.relative_to(ROOT)), name) for name in imported(path))


def test_kernels_know_kernels_only():
    outside = [(f, n) for f, n in imports("kernels") if within(n, "hessfast") and not within(n, "hessfast.kernels")]
    assert outside == []
    allowed = {
        "numpy",
        "numba",
        "llvmlite",
        "torch",
        "triton",
        "cupy",
        "scipy",
        "threadpoolctl",
        "hessfast",
        *sys.stdlib_module_names,
    }
    assert {name.partition(".")[0] for _, name in imports("kernels")} <= allowed


def test_kernels_are_reached_through_dispatch_only():
    assert [(file, name) for file, name in imports("hessfast") if within(name, "hessfast.kernels")] == []


def documented(module):
    """The public names that a module defines, and the public methods of its classes; of a network this tells what it
    maps to what.
    """
    names = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
    for name in names:
        value = getattr(module, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            yield f"{module.__name__}.{name}", value
        if inspect.isclass(value):
            for method, member in vars(value).items():
                if (
                    method != "forward"
                    and not method.startswith("_")
                    and (inspect.isfunction(member) or isinstance(member, property))
                ):
                    yield f"{module.__name__}.{name}.{method}", member


def test_a_machine_without_a_folder_for_caches_is_told_the_remedy():
    code = """
        from numba.core import caching
        caching.CacheImpl._locator_classes = caching.CodeLibraryCacheImpl._locator_classes = []
        from hessfast import ising
        try:
            ising.sample(2.0, 0.5, size=4)
        except RuntimeError as error:
            print(error)
    """
    assert "NUMBA_CACHE_DIR" in fresh(textwrap.dedent(code))


def test_every_module_says_what_it_is():
    assert [name for name in modules() if not inspect.getdoc(importlib.import_module(name))] == []


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_documented(name):
    module = importlib.import_module(name)
    assert module.__all__
    assert [where for where, value in documented(module) if not (inspect.getdoc(value) or "").strip()] == []


@pytest.mark.parametrize("name", sorted({*PUBLIC} - {"hessfast.shards", "hessfast.datasets", "hessfast.reproduce"}))
def test_every_public_function_has_an_example(name):
    module = importlib.import_module(name)
    functions = [(n, getattr(module, n)) for n in module.__all__ if inspect.isfunction(getattr(module, n))]
    assert {n for n, function in functions if ">>>" not in (function.__doc__ or "")} <= NO_EXAMPLE


@pytest.mark.parametrize("name", modules())
def test_examples_are_true(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


@pytest.mark.parametrize("name", modules())
def test_data_classes_with_arrays_are_equal_to_themselves_alone(name):
    """The == that dataclasses write would ask arrays for their truth."""
    for cls in vars(importlib.import_module(name)).values():
        if isinstance(cls, type) and dataclasses.is_dataclass(cls) and cls.__module__ == name:
            types = [str(field.type) for field in dataclasses.fields(cls) if "Callable" not in str(field.type)]
            arrays = [each for each in types if re.search("ndarray|Tensor|Estimate|Penalty", each)]
            assert not arrays or cls.__eq__ is object.__eq__, cls
