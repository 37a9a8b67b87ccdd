"""What a run keeps: one JSON file a record, written whole, and tasks that are shared among processes."""

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from hessfast import _atomic
from hessfast._progress import hidden
from hessfast._steps import Steps

Task = tuple[Callable[..., None], tuple]  # a function of a module, its arguments; the first is the path it writes


def write(path: Path, record: dict[str, Any]) -> None:
    Steps(path.parent).write(path.name, _atomic.json_bytes(record))


def _alone_no_longer(threads: int) -> None:
    """A worker computes with so many threads, and ends when the process that began it has ended."""
    torch.set_num_threads(threads)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_tasks(tasks: Sequence[Task], title: str, workers: int, progress: bool) -> None:
    """Do what is not done yet, one thread in each process: records do not depend on how many there are."""
    missing = [
        (function, arguments) for function, arguments in tasks if not Steps(arguments[0].parent).read(arguments[0].stem)
    ]
    bar = partial(tqdm, desc=title, total=len(missing), disable=hidden(progress and bool(missing)))
    if min(workers, len(missing)) < 2:
        with one_thread():
            for function, arguments in bar(missing):
                function(*arguments)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(missing)), context, _alone_no_longer, (1,)) as pool:
        futures = [pool.submit(function, *arguments) for function, arguments in missing]
        try:
            for future in bar(as_completed(futures)):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Sums of several threads differ in their last digits, and training makes these grow."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
