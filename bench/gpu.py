"""Everything that needs a CUDA device, in at most ten minutes: the tests, the same bits as the CPU, the rates.

    python -m bench.gpu

Runs ``pytest -m gpu tests``, then, if it is green, ``pytest -m gpu bench --record``, which compares bits and writes the
rates to bench/results/<name of the GPU>.json.
"""

import subprocess
import sys

from bench import report

TESTS_AT_MOST, RATES_AT_MOST = 330, 240  # seconds


def pytest(seconds: int, *arguments: str) -> int:
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-rs", *arguments]
    print("$", *command[1:], flush=True)
    try:
        return subprocess.run(command, cwd=report.ROOT, timeout=seconds).returncode
    except subprocess.TimeoutExpired:
        sys.exit(f"pytest {arguments[0]} was stopped after {seconds} s; no rate is reported.")


def main() -> None:
    import torch

    if not torch.cuda.is_available():
        sys.exit("No CUDA device was found: nothing was tested and nothing was measured.")
    print(torch.cuda.get_device_name(), report.provenance())
    if pytest(TESTS_AT_MOST, "tests") not in (0, 5):  # 5: no test asks for a GPU
        sys.exit("The tests on the GPU failed; no rate is reported.")
    if pytest(RATES_AT_MOST, "bench", "--record"):
        sys.exit("A benchmark on the GPU failed; the rates of the others were written to bench/results.")
    print(
        "The tests on the GPU passed, bits are the CPU's, rates are in bench/results; what was skipped is named above."
    )


if __name__ == "__main__":
    main()
