"""What every test can rely on: a thread of its own beside others, and that Ctrl-C interrupts what it starts."""

import os
import signal

import pytest

# With more threads than cores tests beside each other would wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")

# Jobs in the background of a shell ignore Ctrl-C, and so would the commands that they start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def one_thread():
    """For tests of small networks, slower on several threads, and very slow when other jobs hold the cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
