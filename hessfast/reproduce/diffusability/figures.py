"""Figures 2, 3 and the family's: exact lines solid, trained denoisers as points with error bars.

Figures 4 and 5 are those of the assessment of the digits.
"""

from pathlib import Path
from typing import Any

import numpy as np

from hessfast._figures import available, save
from hessfast._figures import figure as new_figure

from . import toys
from .study import CONTROL, QUALITY

__all__ = ["available", "draw"]
_MOST = 12  # diagnostics shown


def draw(folder: Path, report: dict[str, Any]) -> list[Path]:
    """Write `folder/figures`; the paths."""
    parts, pictures = report["parts"], {}
    if "2" in parts.get("toys", {}).get("lines", {}):
        pictures["2"] = _activations(parts["toys"])
    if "toys" in parts or "digits" in parts:
        pictures["3"] = _deviations(parts.get("toys"), parts.get("digits"))
    if "family" in parts:
        pictures["family"] = _family(parts["family"])
    return save(pictures, folder / "figures")


def _new(columns: int, rows: int = 1, **shared):
    figure = new_figure(4.6 * columns, 3.8 * rows)
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def _points(axis, x, y, error, k: int) -> None:
    axis.errorbar(x, y, error, fmt="o", color=f"C{k}", markersize=4)


def _activations(summary: dict[str, Any]):
    line, points = summary["lines"]["2"], summary["points"]["2"]
    figure, axes = _new(3)
    names = ("fisher_information", "fisher_information_rate", "mmse_rate")
    for axis, name, symbol in zip(axes[0], names, ("FI", "FIR", "MMSE'"), strict=True):
        for k, (activation, values) in enumerate(line["lines"].items()):
            axis.plot(line["tau"], values[name], color=f"C{k}", label=activation)
            if activation in points:
                kept = points[activation]
                axis.errorbar(
                    kept["tau"],
                    kept[name]["mean"],
                    2 * np.array(kept[name]["sem"]),
                    fmt="o",
                    color=f"C{k}",
                    markersize=4,
                )
        axis.set(xscale="log", yscale="log", xlabel=r"noise variance $\tau$", title=symbol)
    axes[0, 0].legend(fontsize=8)
    figure.suptitle("Normal data in the plane and pointwise encoders: exact lines, trained points (2 standard errors)")
    return figure


def _deviations(summary: dict[str, Any] | None, digits: dict[str, Any] | None):
    """The paper's four panels above, the same of MMSE' below."""
    figure, axes = _new(4, 2)
    labels = {"3a": r"$\delta_0$", "3b": r"$d$", "3c": r"$\varepsilon_0$"}
    if summary:
        for column, (name, label) in enumerate(labels.items()):
            if (line := summary["lines"].get(name)) is None:
                continue
            for row, quantity in enumerate(("fir", "mmse_rate")):
                axis = axes[row, column]
                for k, tau in enumerate(line["tau"]):
                    exact = np.abs(np.array(line["signed"][quantity])[:, k])
                    axis.plot(line["settings"], exact, color=f"C{k}", label=rf"$\tau$ = {tau:g}")
                    for point in summary["points"][name]:
                        error = 2 * point[f"{quantity}_sem"][k]
                        axis.errorbar(
                            point["setting"], abs(point[quantity][k]), error, fmt="o", color=f"C{k}", markersize=4
                        )
                axis.set(xlabel=label, title=f"{name}: |deviation| of {('FIR', 'MMSE' + chr(39))[row]}")
            if reference := {"3a": toys.reference_3a, "3b": toys.reference_3b}.get(name):
                axes[0, column].plot(
                    line["settings"], [reference(x) for x in line["settings"]], "k:", label="the paper's line"
                )
        axes[0, 0].legend(fontsize=8)
        for axis in axes[:, 2]:
            axis.set_yscale("symlog", linthresh=1e-3)
            axis.set_ylim(bottom=0)
    if digits:
        _scaled(axes[:, 3], digits)
    for axis in axes.flat:
        axis.set_visible(axis.has_data())
    return figure


def _scaled(axes, digits: dict[str, Any]) -> None:
    """3d on the digits: two candidates for the scaled deviation, and MMSE' at equal signal-to-noise."""
    tau = np.array(digits["tau"])
    panels = (
        (("equal_tau", "per-dimension", "-"), ("equal_snr", "per-dimension", "--")),
        (("equal_tau", "mmse-rate", "-"), ("equal_snr", "mmse-rate", "--")),
    )
    for axis, lines in zip(axes, panels, strict=True):
        for k, (name, space) in enumerate((n, s) for n, s in digits["spaces"].items() if "deviations" in s):
            for at, form, style in lines:
                estimate = space["deviations"][at][form]
                mean = np.abs(estimate["mean"])
                axis.plot(tau[-len(mean) :], mean, style, color=f"C{k}", label=f"{name}, {at.replace('_', ' ')}")
        axis.set(xscale="log", yscale="log", xlabel=r"$\tau$")
        axis.legend(fontsize=7)
    axes[0].set_title("3d on digits: |FIR deviation|, per dimension")
    axes[1].set_title("3d on digits: |deviation| of MMSE'")


def _family(summary: dict[str, Any]):
    """Rank correlations with what chance allows, and the energy distances that they are about."""
    budget = summary["budgets"][-1]
    figure, axes = _new(2)
    ranked = sorted(budget["diagnostics"].items(), key=lambda item: -abs(item[1]["mean"]))[:_MOST]
    names, rows = zip(*reversed(ranked), strict=True)
    places = np.arange(len(names))
    colours = ["C7" if name == CONTROL else "C0" for name in names]
    axes[0, 0].barh(places, [row["mean"] for row in rows], color=colours)
    axes[0, 0].plot([row["partial"] for row in rows], places, "kd", markersize=4, label="without the decoder's share")
    for x in (-1, 1):
        axes[0, 0].axvline(x * budget["chance"]["one"], color="k", linestyle=":")
        axes[0, 0].axvline(x * budget["chance"]["best"], color="k", linestyle="--")
    axes[0, 0].set_yticks(places, names, fontsize=7)
    axes[0, 0].set(
        xlabel="mean rank correlation; 95 % of chance: one, best", title="with bad samples, within dimension"
    )
    axes[0, 0].legend(fontsize=7)
    marks = axes[0, 1]
    for k, (dim, rows) in enumerate(summary["encoders"].items()):
        quality = [np.mean(row["quality"]) for row in rows.values()]
        spread = [np.std(row["quality"]) for row in rows.values()]
        marks.errorbar(np.arange(len(rows)) + 0.15 * k, quality, spread, fmt="o", color=f"C{k}", label=f"d = {dim}")
    marks.set_xticks(np.arange(len(rows)), list(rows), rotation=90, fontsize=7)
    marks.set(ylabel=QUALITY.replace("_", " "), title="of samples from reconstructions")
    marks.set_yscale("symlog", linthresh=1e-2)
    marks.legend(fontsize=7)
    return figure
