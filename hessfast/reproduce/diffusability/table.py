"""The report as text."""

from typing import Any

import numpy as np

from .study import CONTROL


def table(report: dict[str, Any]) -> str:
    """Errors of trained denoisers, the digits' deviations, and the rank correlations."""
    parts = report["parts"]
    lines = [
        f"Understanding Latent Diffusability via Fisher Geometry, preset {report['preset']}, seed {report['seed']}"
    ]
    for part, function in (("toys", _toys), ("digits", _digits), ("family", _family)):
        if part in parts:
            lines += ["", *function(parts[part])]
    return "\n".join([*lines, "", *(f"{kind}: {text}." for kind, text in report["sources"].items())])


def _toys(summary: dict[str, Any]) -> list[str]:
    lines = [
        *(
            f"Figure {k}: exact lines differ from the closed form by {x:.0e}"
            for k, x in summary["closed_forms"].items()
        ),
        "Trained denoisers: largest relative error over tau",
        f"{'figure, setting':<32}{'FI':>9}{'FIR':>9}{'MMSE':>9}{'MMSE rate':>11}",
    ]
    for figure, settings in summary["errors"].items():
        for setting, error in settings.items():
            name = f"{figure}, {setting}"
            lines.append(
                f"{name:<32}" + "".join(f"{x:>{w}.2%}" for x, w in zip(error.values(), (9, 9, 9, 11), strict=True))
            )
    lines += [f"Doubtful, {name}: {text}" for name, text in summary["warnings"].items()]
    return lines


def _digits(report: dict[str, Any]) -> list[str]:
    tau = np.array(report["tau"])
    shown = [int(np.abs(np.log(tau / level)).argmin()) for level in (0.1, 1.0, 10.0)]
    lines = [
        "Digits: signed deviations of latents from images, with standard errors",
        f"{'':<36}" + "".join(f"{f'tau = {tau[k]:.2g}':>20}" for k in shown),
    ]
    for name, space in report["spaces"].items():
        for at, forms in space.get("deviations", {}).items():
            if at.endswith("empirical"):
                continue
            for form, estimate in forms.items():
                if estimate is not None:
                    values = "".join(f"{estimate['mean'][k]:>12.3f} +- {estimate['sem'][k]:<4.3f}" for k in shown)
                    lines.append(f"{f'{name}, {at}, {form}':<36}{values}")
    return [*lines, "Curves and samples: digits/figures; penalties and more: digits/table.txt"]


def _family(summary: dict[str, Any]) -> list[str]:
    lines = []
    for budget in summary["budgets"]:
        chance, dims = budget["chance"], budget["dimensions"]
        agree = ", ".join(f"{x:.2f}" for x in budget["seeds_agree"]) if budget["seeds"] > 1 else "one seed"
        lines += [
            f"{budget['encoders']} encoders of the digits, {budget['seeds']} seeds, latent denoisers of "
            f"{budget['steps']} steps: Spearman's rank correlation with",
            "the energy distance of generated images from reconstructions, within each latent dimension "
            "(positive: worse samples)",
            f"chance, 95 %: {chance['one']:.2f} for one diagnostic, {chance['best']:.2f} for the best; "
            f"seeds rank alike by: {agree}",
            f"{'':<34}" + "".join(f"{f'd = {d}':>8}" for d in dims) + f"{'mean':>8}{'partial':>9}{'p':>8}{'p any':>8}",
        ]
        ranked = sorted(budget["diagnostics"].items(), key=lambda item: -abs(item[1]["mean"]))
        for name, row in ranked:
            within = "".join(f"{x:>8.2f}" for x in row["within"])
            lines.append(
                f"{name:<34}{within}{row['mean']:>8.2f}{row['partial']:>9.2f}{row['p']:>8.4f}{row['p_any']:>8.4f}"
            )
        better = [name for name, row in ranked if name != CONTROL and row["p_any"] < 0.05]
        lines += [
            f"Better than the best of as many by chance (5 %): {', '.join(better)}." if better else
            "None predicts better than the best of as many by chance: a null result.",
            "partial: with the ranks of the decoder error taken out. p: of one; p any: of the best of all, by "
            "permutations of the encoders.", "",
        ]  # fmt: skip
    return lines
