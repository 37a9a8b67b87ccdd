"""The README's benchmark tables, from bench/results alone.

python -m bench.readme_table            prints them
python -m bench.readme_table --write    puts them into README.md, between the two marker comments
python -m bench.readme_table --check    exits with 1 if README.md says anything else
"""

import argparse
import json
import sys
from collections.abc import Iterable

from bench import report
from bench.device.steps import STEPS

README = report.ROOT / "README.md"
SHOWN = (  # of the kernels; every row is in bench/results
    "ising_sweep: 128x128",
    "ising_cftp: declared region",
    "ising_fk_cftp: complement of the declared region",
    "ising_data_set: uniform parameters",
    "tasep_sample: 16384 sites, uniform",
    "tasep_evolve: ticks, 16384",
    "tasep_likelihood: one pair of rates",
    "mlp_hessian: fused, softplus",
    "mlp_hessian: double backward, softplus",
    "fisher_curve: sweep, perceptron",
    "fisher_curve: peer loop, perceptron",
    "fisher_curve: sweep, unet",
    "fisher_curve: peer forward and product, unet",
    "slices: digits",
    "slices: released structure",
    "ising_sweep: 16384 lattices",
    "ising_cftp: declared region, kernel",
    "ising_cftp: declared region, ising.sample",
    "tasep_sample: 150000 x 16384 sites, kernel",
    "tasep_evolve: 65536 x 16384 sites",
    "posterior_accumulate: 60105^2 x 768",
    "posterior_moments: 60000^2 x 3072, one probe",
    "mlp_hessian: softplus, 1e6 points",
    "mlp_hessian: paper's LayerNorm, 1e6 points",
    "geodesics: 500 x 90 points, network",
    "fisher_curve: U-Net on 64 x 64 x 3, one probe",
    "peer: Ising sweep, torch.compile",
    "peer: Hessian, softplus, double backward",
    "peer: Hessian, softplus, vmap(hessian)",
    "peer: Hessian, paper's LayerNorm, double backward",
)
BEGIN, END = "<!-- benchmarks: python -m bench.readme_table --write -->", "<!-- /benchmarks -->"


def markdown(header: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    header = list(header)
    right = ["---"] + ["---:"] * (len(header) - 1)
    return ["| " + " | ".join(cells) + " |" for cells in (header, right, *rows)]


def number(value: float | None) -> str:
    """Three significant figures, without an exponent.

    >>> number(0.04551), number(12.34), number(1234.6), number(None)
    ('0.0455', '12.3', '1,235', '')
    """
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def section(result: dict) -> str:
    """One machine: its kernels beside their goals, then the peers and how many times faster hessfast is."""
    rows = result["rows"]
    kernels = {name: rows[name] for name in SHOWN if name in rows}
    peers = {name.removeprefix("peers: "): row for name, row in rows.items() if name.startswith("peers: ")}
    printed = [*kernels.values(), *peers.values()]
    dates = sorted(row["date"][:10] for row in printed)
    commits = sorted({row["commit"] for row in printed})
    lines = [f"**{result['machine']}**, {dates[-1]}, commit {', '.join(commits)}; medians."]
    if kernels:
        cells = ([name, number(row["rate"]), row["unit"], number(row.get("goal"))] for name, row in kernels.items())
        lines += ["", *markdown(["kernel", "rate", "unit", "goal"], cells)]
    if peers:
        # In one unit and one run, so that more is better and a ratio means something.
        order = sorted(peers.items(), key=lambda item: -item[1]["rate"])
        cells = (
            [f"{name} ({row['dynamics']})", number(row["rate"]), number(row.get("hessfast_ratio"))]
            for name, row in order
        )
        lines += ["", *markdown(["Ising 128x128, one core", "flips/ns", "hessfast is x faster"], cells)]
    return "\n".join(lines)


def never_on_a_gpu(results: Iterable[dict]) -> list[str]:
    """The steps of `bench.device` that no result has a row of."""
    every = [row for result in results for kind in ("rows", "checks") for row in result.get(kind, {}).values()]
    return [step for step in STEPS if step not in {row.get("step") for row in every}]


def tables() -> str:
    results = [json.loads(path.read_text()) for path in sorted(report.RESULTS.glob("*.json"))]
    parts = [section(result) for result in results] or ["No results yet."]
    if missing := never_on_a_gpu(results):
        parts.append(f"Not measured on a GPU yet: {', '.join(missing)}.")
    return "\n\n".join(parts)


def inserted(readme: str) -> str:
    """README.md with the tables between the markers."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        sys.exit(f"README.md must hold these two lines once each:\n{BEGIN}\n{END}")
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{rest.split(END)[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.readme_table", description="The README's benchmark tables.")
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    parser.add_argument("--check", action="store_true", help="exit with 1 if README.md differs from bench/results")
    arguments = parser.parse_args()
    if not (arguments.write or arguments.check):
        print(tables())
        return
    old = README.read_text()
    new = inserted(old)
    if arguments.check and old != new:
        sys.exit("README.md differs from bench/results; run python -m bench.readme_table --write.")
    if arguments.write:
        README.write_text(new)


if __name__ == "__main__":
    main()
