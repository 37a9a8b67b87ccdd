"""The report as text."""

from typing import Any

_NAMES = {
    "ours": "ours",
    "exact": "known statistics (ceiling)",
    "paper_method": "paper's method",
    "mean_as_stat": "Mean-as-Stat",
    "pca_vae": "PCA-VAE",
    "affine": "affine log Z (nothing)",
    "quadratic": "best quadratic log Z",
    "absolute_field": "|H| alone",
    "paramagnet": "free spins, T log 2cosh(H/T)",
}


def table(report: dict[str, Any]) -> str:
    """Errors of every row, raw and relative to the spread of the truth, the published ones, and the gaps in nats."""
    published = report.get("published_network", False)
    head = "".join(f"{name:>11}" for name in report["quantities"])
    lines = [
        f"{report['model']}, {report['num_samples']:,} samples of size {report['size']}, seed {report['seed']}: "
        "root mean square errors",
        f"{'':<34}{head}   {'relative to spread':^24}{'metric':>8}{'nats':>8}{'s':>7}",
    ]
    for name, row in report["rows"].items():
        raw = "".join(f"{row[key]:11.4f}" for key in ("F", "dF_dp1", "dF_dp2"))
        relative = "".join(f"{row['normalised'][key]:8.4f}" for key in ("F", "dF_dp1", "dF_dp2"))
        gap = "" if row["nats_gap"] is None else f"{row['nats_gap']['median']:.2f}"
        metric = f"{row['metric']['deviation'][1]:.1%}" if row.get("metric") else ""  # rows kept earlier have none
        called = _NAMES[name] + (", reduced" if name == "paper_method" and not published else "")
        lines.append(f"{called:<34}{raw}   {relative}{metric:>8}{gap:>8}{row['seconds']:7.1f}")
    for name, row in report["published"].items():
        lines.append(f"{'published: ' + _NAMES[name]:<34}" + "".join(f"{x:11.4f}" for x in row.values()))
    lines += [
        f"Aligned: {report['alignment']}.",
        "metric: median deviation of the Fisher metric in natural parameters from the exact one, of its own size.",
        "nats: median divergence of the posterior from the exact one, per held-out sample (networks: per bundle).",
        f"The paper's network is {'as published' if published else 'reduced'} ({report['network']}, images of "
        f"{report['pixels']} x {report['pixels']}){'.' if published else '; --network full is for GPUs.'}",
    ]
    return "\n".join(lines + (_geodesics(report["geodesics"]) if "geodesics" in report else []))


def _geodesics(report: dict[str, Any]) -> list[str]:
    lines = [
        "",
        f"Curves of {report['pairs']} random pairs, {report['num_points']} points each: median (quartiles), per site",
        f"{'':<36}{'pairs':>5}{'converged':>11}   {'length':<24}{'energy':<24}{'s':>6}",
    ]
    for name, potential in report["potentials"].items():
        for kind, entry in potential["kinds"].items():
            for group in ("crossing", "others"):
                row = entry[group]
                share = "" if row["converged"] is None else f"{row['converged']:.1%}"
                seconds = f"{entry['seconds']:.1f}" if group == "crossing" else ""
                lines.append(
                    f"{f'{name}, {kind}, {group}':<36}{row['pairs']:>5}{share:>11}   "
                    f"{_quartiles(row['length']):<24}{_quartiles(row['energy']):<24}{seconds:>6}"
                )
    off, potentials, excess = report["deviation"], report["potentials"].items(), report["distance_map"]["excess"]
    lines += [
        "crossing: the straight line meets a phase boundary. Of more energy than the straight line: "
        + ", ".join(f"{x['above_straight']} ({name})" for name, x in potentials) + ".",
        "Lengths of levi-civita, |ours / exact - 1|: "
        + ", ".join(f"{group} {_quartiles(off[group])}" for group in ("crossing", "others")) + ".",
        f"As learned the metric is indefinite at {report['indefinite']:.0%} of the box. Both potentials are made",
        f"convex, as of {report['sites']:,} sites and cells of the table, in "
        + ", ".join(f"{x['table_seconds']:.1f} s ({name})" for name, x in potentials) + ".",
    ]  # fmt: skip
    if excess:
        num, low, middle, high = report["distance_map"]["targets"], excess[0], excess[2], excess[4]
        lines.append(
            f"Shortest paths on a grid exceed {num} geodesics of ours by {middle:.2%} in the median, "
            f"{low:.2%} at least, {high:.2%} at most."
        )
    return lines


def _quartiles(values: list[float] | None) -> str:
    return "-" if values is None else "{1:.4f} ({0:.4f} {2:.4f})".format(*values)
