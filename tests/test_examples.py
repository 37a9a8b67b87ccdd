"""The examples keep their word: each page runs as one program, and prints what it measured."""

import re
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_limits

from .threads import threads

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "examples").glob("*.md"))


def program(page: Path) -> str:
    """Its Python blocks in order, each line where it is on the page."""
    text = page.read_text()
    blocks = re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S)
    lines = [""] * text.count("\n")
    for block in blocks:
        first = text.count("\n", 0, block.start(1))
        code = block[1].splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines)


@pytest.fixture
def one_thread():
    """For either side of a comparison, so that it holds on a machine that has other work to do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threads(1), threadpool_limits(1, user_api="blas"):
        yield
    torch.set_num_threads(before)


def test_there_are_pages():
    assert [page.name for page in PAGES] == ["drop_in.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_run(page, one_thread, capsys):
    exec(compile(program(page), str(page), "exec"), {"__name__": page.stem})
    measured = [line for line in capsys.readouterr().out.splitlines() if line.endswith("times faster")]
    assert len(measured) >= 3
    with capsys.disabled():
        print("", *measured, sep="\n")
