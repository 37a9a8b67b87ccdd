"""Ctrl-C is neither lost nor taken for damage while a library reads a file."""

import signal
import threading

import pytest
import torch
from safetensors.torch import save_file

from hessfast import _checkpoint, _interrupts


def test_an_interrupt_comes_after_the_block():
    before, done = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt), _interrupts.deferred():
        signal.raise_signal(signal.SIGINT)
        done.append("the rest")
    assert done == ["the rest"] and signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_comes_in_place_of_an_error():
    with pytest.raises(KeyboardInterrupt), _interrupts.deferred():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("what a library made of it")
    with pytest.raises(ValueError, match="its own"), _interrupts.deferred():
        raise ValueError("its own")


def test_who_ignores_interrupts_goes_on_ignoring_them():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with _interrupts.deferred():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_have_no_interrupts():
    seen = []

    def work():
        with _interrupts.deferred():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


def test_files_are_read_whole_or_interrupted(tmp_path):
    """Without the block about half of these interrupts end as a ValueError of torch's."""
    path, ends = tmp_path / "file.safetensors", []
    save_file({f"{k}": torch.ones(100, 100) for k in range(30)}, path)
    before = signal.signal(signal.SIGALRM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    for k in range(40):
        signal.setitimer(signal.ITIMER_REAL, 1e-4 * (1 + k))
        try:
            for _ in range(1000):
                _checkpoint.read(path)
        except (KeyboardInterrupt, ValueError) as end:
            ends.append(type(end))
    signal.signal(signal.SIGALRM, before)
    assert ends == [KeyboardInterrupt] * 40
