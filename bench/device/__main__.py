"""See the package."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import report

from .steps import STEPS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.device", description="Every GPU path, proved and measured.")
    parser.add_argument("--minutes", type=float, default=9.0, help="steps that would end later are not begun")
    parser.add_argument("--out", type=Path, help="JSON file; default bench/results/<name of the GPU>.json")
    parser.add_argument("--only", nargs="*", choices=list(STEPS), metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--commit", help="where the working tree is no git checkout")
    arguments = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        sys.exit("No CUDA device was found: nothing was tested and nothing was measured.")
    out = arguments.out or report.path_of("cuda")
    result = {"machine": torch.cuda.get_device_name(), **environment(), **report.provenance()}
    if arguments.commit:
        result["commit"] = arguments.commit
    deadline = time.time() + 60 * arguments.minutes
    result["rows"], result["failed"], result["not begun"] = run(arguments.only or list(STEPS), deadline, out, result)
    write(out, result)
    print(table(result["rows"]))
    for name, error in result["failed"].items():
        print(f"FAILED {name}: {error}")
    print(f"{len(result['rows'])} rows are in {out}; not begun: {', '.join(result['not begun']) or 'none'}.")
    sys.exit(1 if result["failed"] else 0)


def environment() -> dict:
    import torch

    properties = torch.cuda.get_device_properties(0)
    query = ["nvidia-smi", "--query-gpu=driver_version,clocks.max.sm", "--format=csv,noheader"]
    driver = subprocess.run(query, capture_output=True, text=True).stdout.strip()
    return {
        "device": "cuda",
        "cuda": torch.version.cuda,
        "driver, greatest SM clock": driver,
        "multiprocessors": properties.multi_processor_count,
        "memory_GB": round(properties.total_memory / 1e9, 1),
        "cpus": os.cpu_count(),
        "system": platform.platform(),
    }


def run(names: list[str], deadline: float, out: Path, result: dict) -> tuple[list, dict, list]:
    """Rows, errors by step, and the steps there was no time for; the file is written after every change."""
    rows, failed, left = [], {}, list(names)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        while left:
            left = [name for name in left if time.time() + min(STEPS[name][1], 30) < deadline]
            log.write_text("")
            process = subprocess.Popen([sys.executable, "-m", "bench.device.worker", str(log), *left], cwd=report.ROOT)
            running, since, seen = None, time.time(), 0
            while True:
                ended = process.poll() is not None
                events = [json.loads(line) for line in log.read_text().split("\n")[:-1]]
                for event in events[seen:]:
                    if "begin" in event:
                        running, since = event["begin"], event["at"]
                        left.remove(running)
                        print(f"{time.strftime('%H:%M:%S')} {running}", flush=True)
                    elif "row" in event:
                        rows.append(event["row"])
                    else:
                        failed[event["failed"]] = event["error"]
                if len(events) > seen:
                    write(out, {**result, "rows": rows, "failed": failed})
                seen = len(events)
                if ended:
                    if process.returncode and running and running not in failed:
                        failed[running] = f"the process ended with {process.returncode}"
                    break
                limit = since + STEPS[running][1] if running else since + 60
                if time.time() > min(limit, deadline):
                    process.kill()
                    process.wait()
                    failed[running or left.pop(0)] = "stopped: it took too long"
                    break
                time.sleep(0.2)
            if time.time() > deadline:
                break
    return rows, failed, left


def write(out: Path, result: dict) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(result, indent=1) + "\n")
    temporary.replace(out)


def table(rows: list[dict]) -> str:
    lines = []
    for row in rows:
        if "value" not in row:
            lines.append("  ".join(f"{key}: {value}" for key, value in row.items() if key != "step"))
            continue
        goal = f"goal {row['goal']:.4g}" if "goal" in row else ""
        spread = f"{row['least'] * 1e3:.3f} .. {row['most'] * 1e3:.3f} ms"
        first = f"first {row['first']:.2f} s"
        lines.append(f"{row['name']:58} {row['value']:11.5g} {row['unit']:12} {goal:14} {spread:26} {first}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
