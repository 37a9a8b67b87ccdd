"""The wheel: every file of the package and nothing else; installed in a fresh environment it samples anywhere."""

import configparser
import os
import shutil
import site
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SHIPPED = {".py", ".cu", ".cuh", ".npz", ".safetensors"}


def files(root: Path) -> set[str]:
    """The files that belong in the package, by their path in the wheel."""
    trees = {"hessfast": root / "hessfast", "hessfast/kernels": root / "kernels"}
    return {
        f"{name}/{path.relative_to(tree)}"
        for name, tree in trees.items()
        for path in tree.rglob("*")
        if path.suffix in SHIPPED or path.name == "py.typed"
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("hessfast", "kernels"):  # a copy, because setuptools leaves its build folder behind
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(source)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return next(target.glob("*.whl")), files(source)


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A fresh environment that holds the wheel and borrows its dependencies from this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel[0])], check=True)
    # The lines of a .pth file come last on sys.path, and the .pth files found there, such as that of an editable
    # hessfast, are not read.
    borrowed = next(folder.glob("lib/python*/site-packages")) / "borrowed.pth"
    borrowed.write_text("\n".join(site.getsitepackages()) + "\n")
    return folder


def run(command: list[str], cwd: Path) -> str:
    # In plain Python, because compiling for a minute would tell nothing more about the package.
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    environment.pop("PYTHONPATH", None)
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_folder_is_listed_as_a_package():
    listed = PROJECT["tool"]["setuptools"]["packages"]
    found = {path.rpartition("/")[0].replace("/", ".") for path in files(ROOT) if path.endswith(".py")}
    assert len(listed) == len(set(listed))
    assert set(listed) == found


def test_versions_agree():
    import hessfast

    assert PROJECT["project"]["version"] == hessfast.__version__
    assert f"## {hessfast.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_wheel_holds_every_file_and_nothing_else(wheel):
    path, expected = wheel
    with zipfile.ZipFile(path) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        entry_points = configparser.ConfigParser()
        entry_points.read_string(
            archive.read(f"hessfast-{PROJECT['project']['version']}.dist-info/entry_points.txt").decode()
        )
    assert names == expected
    assert {Path(name).suffix for name in names} >= {".py", ".cu", ".cuh", ".typed"}
    assert dict(entry_points["console_scripts"]) == PROJECT["project"]["scripts"]


def test_an_installed_wheel_draws_a_lattice_from_another_directory(environment, tmp_path):
    code = (
        "import hessfast; print(hessfast.__file__); print(hessfast.ising.sample(1.0, 8.0, size=8).magnetization()[0])"
    )
    where, magnetization = run([str(environment / "bin" / "python"), "-c", code], tmp_path).split()
    assert Path(where).is_relative_to(environment)
    assert magnetization == "64"  # a spin is down with probability exp(-24)


def test_an_installed_command_knows_its_version(environment, tmp_path):
    shown = run([str(environment / "bin" / "hessfast"), "--version"], tmp_path)
    assert shown.startswith(f"hessfast {PROJECT['project']['version']}\n")
