"""The README's numbers, outside of its tables of benchmarks, are those of bench/results/reproduce."""

import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
README = " ".join((ROOT / "README.md").read_text().split())


def recorded(name: str) -> dict:
    return json.loads((ROOT / "bench/results/reproduce" / f"{name}.json").read_text())


ISING, TASEP = recorded("ising-quick"), recorded("tasep-quick")
PAPER = recorded("ising-paper"), recorded("tasep-paper")


def percent(share: float, digits: int = 2) -> str:
    """Of so many digits: 5.1 %, 14 %."""
    return f"{100 * share:#.{digits}g}".rstrip(".") + " %"


def said(sentence: str) -> bool:
    return " ".join(sentence.split()) in README


@pytest.mark.parametrize(("label", "runs"), [("quick, two minutes or so", (ISING, TASEP)), ("paper, as many", PAPER)])
def test_errors_of_row_ours(label, runs):
    cells = []
    for ours in (run["rows"]["ours"] for run in runs):
        cells += [f"{ours[name]:.4f}" for name in ("F", "dF_dp1", "dF_dp2")]
        deviation = ours["metric"]["deviation"][1]
        cells.append(percent(deviation, 1 if deviation < 0.01 else 2))
    (line,) = (part for part in README.split("| row `ours`, ")[1:] if part.startswith(label))
    assert [cell.strip() for cell in line.split("|")[1:9]] == cells


def test_published_errors():
    both = [
        [f"{run['published']['paper_method'][name]:.4f}" for name in ("F", "dF_dp1", "dF_dp2")]
        for run in (ISING, TASEP)
    ]
    assert said(f"| published in [1] | {' | '.join(both[0])} | | {' | '.join(both[1])} | |")


def test_shares_of_the_nodes():
    ours = [run["rows"]["ours"] for run in (ISING, TASEP, *PAPER)]
    within = [percent(each["notes"]["within two standard errors"], 1 if k == 3 else 2) for k, each in enumerate(ours)]
    assert said(
        f"within two standard errors at {within[0]} (Ising) and {within[1]} (TASEP) of the nodes with `quick`, at "
        f"{within[2]} and {within[3]} with `paper`."
    )
    definite = [percent(each["metric"]["positive_definite"]) for each in ours]
    assert said(
        f"positive definite at {definite[0]} (`quick`) and {definite[2]} (`paper`) of the nodes of Ising, at "
        f"{definite[1][:-2]} % and {definite[3]} of those of the TASEP"
    )


def test_geodesics():
    both = [run["geodesics"] for run in (ISING, TASEP)]
    assert said(
        "indefinite in {} of the box for Ising, in {} for the TASEP".format(*(percent(g["indefinite"]) for g in both))
    )
    released = [g["potentials"]["ours"]["kinds"]["released"]["crossing"]["converged"] for g in both]
    assert said(
        f"kind `released`, {percent(released[0], 1)} (Ising) and {percent(released[1])} (TASEP) converge across"
    )
    ours, exact = ([g["potentials"][name] for g in both] for name in ("ours", "exact"))
    curves = [each["kinds"]["levi-civita"] for each in ours]
    num = [sum(each[group]["converged"] * each[group]["pairs"] for group in ("crossing", "others")) for each in curves]
    assert said("| geodesics converged, of 500 | {:.0f} | {:.0f} |".format(*num))
    assert all(each["above_straight"] == 0 for each in (*ours, *exact)) and said(
        "energy than the straight line | 0 | 0 |"
    )
    seconds = [f"{c['seconds']:.1f}, {each['table_seconds']:.1f}" for c, each in zip(curves, ours, strict=True)]
    assert said("| seconds, and for the table | {} | {} |".format(*seconds))
    for label, group in (("across a boundary", "crossing"), ("elsewhere", "others")):
        lengths = [[each["kinds"]["levi-civita"][group]["length"][1] for each in side] for side in (ours, exact)]
        cells = [f"{own:.3f} ({true:.3f})" for own, true in zip(*lengths, strict=True)]
        assert said("| median length {}, ours (exact) | {} | {} |".format(label, *cells))
    off = ["; ".join(percent(g["deviation"][group][1]) for group in ("crossing", "others")) for g in both]
    assert said("from the exact one, across; elsewhere | {} | {} |".format(*off))


def test_maps_of_distance():
    excess = [[100 * run["geodesics"]["distance_map"]["excess"][k] for k in (2, 0, 4)] for run in (ISING, TASEP)]
    assert [run["geodesics"]["distance_map"]["targets"] for run in (ISING, TASEP)] == [50, 50]
    cells = ["{:.1f} %; {:.1f} %; {:.1f} %".format(*excess[0]), "{:.2f} %; {:.2f} %; {:.1f} %".format(*excess[1])]
    assert said("median; lowest; highest of 50 | {} | {} |".format(*cells))


def test_noise_in_the_loop():
    shares = {}
    for each in recorded("eta-phases")["rows"]:
        shares.setdefault(each["eta"], []).append(f"{100 * each['neighbours']:.0f}")
    still, some, full = (" to ".join(sorted(set(shares[eta]))) for eta in (0.0, 0.1, 1.0))
    assert said(f"at {still} % without it, at {some} % with eta = 0.1, at {full} % with eta = 1")


def test_what_diagnostics_predict():
    budgets = recorded("diffusability-family")["budgets"]
    assert said(f"over {budgets[0]['encoders']} encoders of the digits, three seeds")
    assert said("latent denoisers of {:,} and {:,} steps".format(*(each["steps"] for each in budgets)))
    best = max(
        ((abs(each["mean"]), budget) for budget in budgets for each in budget["diagnostics"].values()),
        key=lambda x: x[0],
    )
    assert said(
        f"a rank correlation of {best[0]:.2f} with quality, averaged over d = 4, 8, 16, 32; by chance the best of as "
        f"many stays below {best[1]['chance']['best']:.2f} in 95 % of permutations"
    )
    plain = budgets[1]["diagnostics"]["FIR deviation, equal noise"]["within"]
    assert said("plain FIR deviation {:+.2f}, {:+.2f}, {:+.2f}, {:+.2f} after 1,200 steps".format(*plain))


def test_geodesics_across_a_line_and_maps_of_many_nodes():
    claims = recorded("claims")
    assert [f"{each['length']:.2f}" for each in claims["crossing"][:2]] == ["0.22"] * 2 and said(
        "crossing it costs 0.22"
    )
    lowest = min(row["lowest"] for rows in claims["maps"].values() for row in rows)
    assert {max(row["side"] for row in rows) for rows in claims["maps"].values()} == {1025}
    most = f"{np.ceil(-1000 * lowest) / 10:.1f} %"
    assert said(f"shorter than a geodesic by more than {most}, up to 1,025 x 1,025 nodes")
    assert f"{100 * max(each['excess'] for each in claims['crossing']):.1f} %" == most and said(
        "as much as a curve of 90"
    )


def test_zooms_and_adaptive_slices():
    claims = recorded("claims")
    ends = []
    for levels in claims["demo"]["zooms"].values():
        spacings, heights = ([level[name] for level in levels] for name in ("spacing", "lipschitz"))
        first = next(k for k, level in enumerate(levels) if level["smooth"])
        grown = next(k for k, height in enumerate(heights) if height > 1.3 * heights[first])
        assert said(f"smooth from a spacing of {order(spacings[first])} on")
        assert all(level["smooth"] for level in levels[first:grown])
        assert min(heights[first:]) > 0.99 * heights[first]
        ends.append(order(spacings[grown]))
    assert said("grows only where float32 ends, near {}, or float64, near {}:".format(*ends))
    assert said(f"than straight lines there (p = {claims['demo']['p']:.2f} over {claims['demo']['pairs']} pairs)")
    first, other = claims["sparse"]
    assert said(
        f"{first['adaptive']['num']} of 4,096 give the features, of norm 1, of all others to "
        f"{first['adaptive']['error']:.3f} on one slice and {other['adaptive']['error']:.3f} on another, "
        f"{first['even']['num']} on an even subgrid to {first['even']['error']:.3f} and {other['even']['error']:.3f}"
    )


def order(spacing: float) -> str:
    return f"1e{np.log10(spacing).round():.0f}"
