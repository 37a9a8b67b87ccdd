"""See the package."""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import report

from . import dry
from .steps import STEPS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.device", description="Every GPU path, proved and measured.")
    parser.add_argument("--minutes", type=float, default=9.0, help="steps that could end later are not begun")
    parser.add_argument("--out", type=Path, help="JSON file; default bench/results/<name of the GPU>.json")
    parser.add_argument("--only", nargs="*", choices=list(STEPS), metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--commit", help="where the working tree is no git checkout")
    parser.add_argument("--dry", action="store_true", help="without a GPU: registers, spills, warps, inner loops")
    arguments = parser.parse_args()
    if arguments.dry:
        print(dry.registers(), dry.inner_loops(), sep="\n\n")
        return
    import torch

    if not torch.cuda.is_available():
        sys.exit("No CUDA device was found: nothing was tested and nothing was measured. Without one there is --dry.")
    run = Run(arguments.out or report.path_of("cuda"), arguments.commit)
    run.steps(arguments.only or list(STEPS), time.time() + 60 * arguments.minutes)
    print(report.table(run.rows))
    for name, check in run.checks.items():
        print(f"{name}: {', '.join(f'{key} {value}' for key, value in check.items() if key not in run.stamp)}")
    for name, error in run.failed.items():
        print(f"FAILED {name}: {error}")
    print(f"{len(run.rows)} rates are in {run.out}; not begun: {', '.join(run.left) or 'none'}.")
    sys.exit(1 if run.failed else 0)


class Run:
    """Rows with a rate and checks without one, by name; errors by step; the steps that are left.

    The file of earlier runs is kept, the newest row of a name wins; it is written after every change.
    """

    def __init__(self, out: Path, commit: str | None):
        self.out, self.stamp = out, report.provenance() | ({"commit": commit} if commit else {})
        self.known = json.loads(out.read_text()) if out.exists() else {"rows": {}, "checks": {}}
        self.rows, self.checks, self.failed, self.left = {}, {}, {}, []

    def steps(self, names: list[str], deadline: float) -> None:
        """Each step begins in a worker that goes on from one to the next; a lost worker is replaced by another."""
        self.left = list(names)
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log"
            while time.time() < deadline:
                begun = [name for name in self.left if time.time() + min(STEPS[name][1], 30) < deadline]
                if not begun:
                    return
                log.write_text("")
                command = [sys.executable, "-m", "bench.device.worker", str(log), *begun]
                worker = subprocess.Popen(command, cwd=report.ROOT, start_new_session=True)
                try:
                    self._follow(worker, log, deadline)
                finally:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(worker.pid, signal.SIGKILL)  # and what it has started
                    worker.wait()

    def _follow(self, worker: subprocess.Popen, log: Path, deadline: float) -> None:
        running, since, seen = None, time.time(), 0
        while True:
            ended = worker.poll() is not None
            events = [json.loads(line) for line in log.read_text().split("\n")[:-1]]
            for event in events[seen:]:
                if "begin" in event:
                    running, since = event["begin"], event["at"]
                    self.left.remove(running)
                    print(f"{time.strftime('%H:%M:%S')} {running}", flush=True)
                elif "row" in event:
                    name = event["row"].pop("name")
                    kind = self.rows if "rate" in event["row"] else self.checks
                    kind[name] = event["row"] | self.stamp
                else:
                    self.failed[event["failed"]] = event["error"]
            if len(events) > seen:
                self._write()
            seen = len(events)
            late = time.time() > min(since + (STEPS[running][1] if running else 60), deadline)
            if ended and worker.returncode and running not in self.failed:
                self.failed[running or self.left.pop(0)] = f"the process ended with {worker.returncode}"
            elif late and not ended:
                self.failed[running or self.left.pop(0)] = "stopped: it took too long"
            if ended or late:
                return
            time.sleep(0.2)

    def _write(self) -> None:
        content = {"machine": report.machine("cuda"), "device": "cuda", "system": system()}
        for name in ("rows", "checks"):
            content[name] = dict(sorted((self.known.get(name, {}) | getattr(self, name)).items()))
        self.out.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.out.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(content, indent=1) + "\n")
        temporary.replace(self.out)


def system() -> dict:
    import torch

    properties = torch.cuda.get_device_properties(0)
    query = ["nvidia-smi", "--query-gpu=driver_version,clocks.max.sm", "--format=csv,noheader"]
    return {
        "driver, greatest clock": subprocess.run(query, capture_output=True, text=True).stdout.strip(),
        "cuda": torch.version.cuda,
        "multiprocessors": properties.multi_processor_count,
        "memory_GB": round(properties.total_memory / 1e9, 1),
        "cpus": os.cpu_count(),
    }


if __name__ == "__main__":
    main()
