"""Runs steps one after another; LOG gets a line for all that happens: python -m bench.device.worker LOG STEP..."""

import json
import sys
import time
import traceback

from .steps import STEPS


def main() -> None:
    log, *names = sys.argv[1:]
    with open(log, "a", buffering=1) as lines:

        def write(**event) -> None:
            lines.write(json.dumps(event) + "\n")

        for name in names:
            write(begin=name, at=time.time())
            try:
                for row in STEPS[name][0]():
                    write(row={"step": name, **row})
            except Exception as error:
                traceback.print_exc()
                write(failed=name, error=f"{type(error).__name__}: {str(error)[-1500:]}")
                if "CUDA error" in str(error):
                    sys.exit(1)  # the context is lost; the next steps need a new one
            import torch

            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
