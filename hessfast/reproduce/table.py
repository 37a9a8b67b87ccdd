"""The report as text."""

from typing import Any

_NAMES = {
    "ours": "ours",
    "exact": "known statistics (ceiling)",
    "paper_method": "paper's method, reduced",
    "mean_as_stat": "Mean-as-Stat",
    "pca_vae": "PCA-VAE",
    "affine": "affine log Z (nothing)",
    "quadratic": "best quadratic log Z",
    "absolute_field": "|H| alone",
    "paramagnet": "free spins, T log 2cosh(H/T)",
}


def table(report: dict[str, Any]) -> str:
    """Errors of every row, raw and relative to the spread of the truth, the published ones, and the gaps in nats."""
    head = "".join(f"{name:>11}" for name in report["quantities"])
    lines = [
        f"{report['model']}, {report['num_samples']:,} samples of size {report['size']}, seed {report['seed']}: "
        "root mean square errors",
        f"{'':<34}{head}   {'relative to spread':^24}{'nats':>8}{'s':>7}",
    ]
    for name, row in report["rows"].items():
        raw = "".join(f"{row[key]:11.4f}" for key in ("F", "dF_dp1", "dF_dp2"))
        relative = "".join(f"{row['normalised'][key]:8.4f}" for key in ("F", "dF_dp1", "dF_dp2"))
        gap = "" if row["nats_gap"] is None else f"{row['nats_gap']['median']:.2f}"
        lines.append(f"{_NAMES[name]:<34}{raw}   {relative}{gap:>8}{row['seconds']:7.1f}")
    for name, row in report["published"].items():
        lines.append(f"{'published: ' + _NAMES[name].split(',')[0]:<34}" + "".join(f"{x:11.4f}" for x in row.values()))
    lines += [
        f"Aligned: {report['alignment']}.",
        "nats: median divergence of the posterior from the exact one, per held-out sample (networks: per bundle).",
        f"The paper's network is reduced ({report['network']}, images of {report['pixels']} x {report['pixels']}); "
        "at full size it needs GPUs.",
    ]
    return "\n".join(lines)
