"""The README keeps its word: its example runs, its commands parse, its tables name what there is."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import readme_table
from hessfast import cli

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"(?:bin/|^ {4}|-m )(hessfast [^#`\n]*[^#`\s])", README, re.M)
FORMS = ("reference", "cpu", "gpu")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


@pytest.mark.parametrize("example", blocks("python"))
def test_examples_run(example):
    assert "assert" in example
    assert len([line for line in example.splitlines() if line]) <= 12
    exec(compile(example, "README.md", "exec"), {})


def test_two_commands_do_all_set_up():
    job, test = (command.strip() for command in blocks("sh"))
    assert "\n" not in job + test
    assert job.endswith(COMMANDS[0])
    assert test.split(" && ")[-1].startswith(".venv/bin/pytest ")


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command):
    # Options are looked up before --help stops the command.
    result = CliRunner().invoke(cli.app, [*shlex.split(command)[1:], "--help"])
    assert result.exit_code == 0, result.output


def test_the_table_lists_every_kernel_with_its_forms():
    rows = [[cell.strip() for cell in row.split("|")] for row in re.findall(r"^\| `(.*) \|$", README, re.M)]
    listed = {row[0].strip("`"): [form for form, mark in zip(FORMS, row[2:5], strict=True) if mark] for row in rows}
    folders = {path.parent for path in (ROOT / "kernels").glob("[a-z]*/reference.py")}
    assert listed == {folder.name: [f for f in FORMS if (folder / f"{f}.py").exists()] for folder in folders}


def test_links_lead_to_files():
    links = re.findall(r"\]\(([^)]*)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_the_benchmark_tables_are_the_recorded_ones():
    assert readme_table.inserted(README) == README
    assert [name for name in readme_table.SHOWN if f"| {name} |" not in README] == []
