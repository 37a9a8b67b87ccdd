"""What a run keeps: one JSON file a record, written whole, and tasks that are shared among processes."""

import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from hessfast import _atomic

Task = tuple[Callable[..., None], tuple]  # a function of a module, its arguments; the first is the path it writes


def write(path: Path, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _atomic.write(path, [(json.dumps(record, indent=1) + "\n").encode()])


def run_tasks(tasks: Sequence[Task], title: str, workers: int, progress: bool) -> None:
    """Do what is not done yet, one thread in each process: records do not depend on how many there are."""
    missing = [(function, arguments) for function, arguments in tasks if not arguments[0].exists()]
    bar = partial(tqdm, desc=title, total=len(missing), disable=None if progress and missing else True)
    if min(workers, len(missing)) < 2:
        with one_thread():
            for function, arguments in bar(missing):
                function(*arguments)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(missing)), context, torch.set_num_threads, (1,)) as pool:
        futures = [pool.submit(function, *arguments) for function, arguments in missing]
        try:
            for future in bar(as_completed(futures)):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums of several threads differ in their last digits, and training makes these grow."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
