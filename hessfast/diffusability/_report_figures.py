"""Figures of an assessment: curves with the limits that they must meet, deviations, penalties, samples."""

from pathlib import Path
from typing import Any

import numpy as np

from hessfast._figures import available, save
from hessfast._figures import figure as new_figure

__all__ = ["COLUMNS", "available", "draw"]

COLUMNS = 12  # images of each kind
_CURVES = (
    # quantity, its name, the power of tau that makes it a number, and that number's name
    ("fisher_information", "FI", 1, r"$\tau\,$FI$\,/D$"),
    ("fisher_information_rate", "FIR", 2, r"$\tau^2\,$FIR$\,/D$"),
    ("mmse_rate", "MMSE'", 0, r"MMSE$\,/\tau D$"),
)
_POINTS = {"marker": "o", "markersize": 3, "linewidth": 0.8}
_FORMS = {
    "plain": "FIR, plain",
    "per-dimension": "FIR, per dimension",
    "normal-dimension": "FIR, per normal dimension",
    "mmse-rate": "MMSE'",
}
_PENALTIES = (
    "tangential_distortion", "anisotropy", "secant_distortion", "bending", "metric_change", "nonlinearity",
    "data_curvature", "gpe_cost",
)  # fmt: skip


def draw(report: dict[str, Any], pictures: dict[str, np.ndarray], folder: Path) -> list[Path]:
    """Write `folder/figures`; the paths."""
    figures = {"curves": _curves(report), "samples": _samples(report, pictures)}
    if report["encoders"]:
        figures |= {"deviations": _deviations(report), "penalties": _penalties(report)}
    return save(figures, folder / "figures")


def _colours(report: dict[str, Any]) -> dict[str, str]:
    return {name: "black" if name == "data" else f"C{k - 1}" for k, name in enumerate(report["spaces"])}


def _curves(report: dict[str, Any]) -> Any:
    """Above the curves, below what they tend to: log-log, then as shares of D."""
    figure = new_figure(13, 7.4)
    axes, m = figure.subplots(2, 3, sharex=True), report["intrinsic_dimension"]["value"]
    colours = _colours(report)
    for name, space in report["spaces"].items():
        for k, (key, _, power, _) in enumerate(_CURVES):
            below = key if power else "mmse"
            for kind in ("curve", "empirical"):
                if curve := space[kind]:
                    t = np.array(curve["tau"])
                    share = t**power / curve["dim"] if power else 1 / (t * curve["dim"])
                    _plot(axes[0, k], curve, key, colours[name], np.ones(len(t)), kind, name)
                    _plot(axes[1, k], curve, below, colours[name], share, kind, name)
    tau = np.array(report["tau"])
    dim, dotted = report["spaces"]["data"]["curve"]["dim"], {"color": "grey", "linestyle": ":", "linewidth": 1.2}
    for k, (_, title, power, scaled) in enumerate(_CURVES):
        if power:
            below = r"\tau" if power == 1 else r"\tau^2"
            axes[0, k].plot(tau, dim / tau**power, label=f"$D/{below}$ and $(D-m)/{below}$", **dotted)
            axes[0, k].plot(tau, (dim - m) / tau**power, **dotted)
            axes[1, k].axhline(1, **dotted)
            axes[1, k].axhline((dim - m) / dim, **dotted)
            axes[1, k].annotate(f"$(D-m)/D$, $m={m}$", (tau[0], (dim - m) / dim), va="top", fontsize=8, color="grey")
        else:
            axes[0, k].axhline(m, label=f"$m={m}$", **dotted)
            axes[1, k].axhline(m / dim, **dotted)
        axes[0, k].set(title=title, xscale="log", yscale="log")
        axes[1, k].set(title=scaled, xlabel=r"$\tau$", ylim=(0, 1.08))
        axes[0, k].legend(fontsize=8)
    axes[0, 2].set_ylim(bottom=1e-4)
    figure.suptitle("Points: trained denoisers, held-out images, bars of one standard error. Dashed: the data alone.")
    return figure


def _plot(axis: Any, curve: dict[str, Any], key: str, colour: str, share: np.ndarray, kind: str, name: str) -> None:
    """Points where a denoiser was trained; a dashed line of the data alone."""
    mean, sem = (np.array(curve[key][part]) * share for part in ("mean", "sem"))
    if kind == "curve":
        axis.errorbar(curve["tau"], mean, sem, color=colour, label=name, **_POINTS)
    else:
        axis.plot(curve["tau"], mean, "--", color=colour, linewidth=1.5)


def _deviations(report: dict[str, Any]) -> Any:
    figure = new_figure(13, 6)
    axes = figure.subplots(2, len(_FORMS), sharex=True, sharey="col", squeeze=False)
    tau, colours = np.array(report["tau"]), _colours(report)
    for row, (pairing, words) in zip(axes, {"equal_tau": "equal noise", "equal_snr": "equal SNR"}.items(), strict=True):
        for axis, (form, title) in zip(row, _FORMS.items(), strict=True):
            axis.axhline(0, color="grey", linewidth=0.8)
            for name in report["encoders"]:
                kept = report["spaces"][name]["deviations"][pairing][form]
                if kept:
                    axis.errorbar(tau, kept["mean"], kept["sem"], color=colours[name], label=name, **_POINTS)
                if alone := report["spaces"][name]["deviations"][f"{pairing}_empirical"][form]:
                    axis.plot(tau[-len(alone["mean"]) :], alone["mean"], "--", color=colours[name], linewidth=1.5)
            axis.set(xscale="log", title=f"{title}, {words}")
    for axis in axes[-1]:
        axis.set_xlabel(r"$\tau$ of the data")
    for row in axes:
        row[0].set_ylabel("latents / data - 1")
    axes[0, 0].legend(fontsize=8)
    return figure


def _penalties(report: dict[str, Any]) -> Any:
    figure = new_figure(13, 5.2)
    colours, names = _colours(report), report["encoders"]
    for axis, key in zip(figure.subplots(2, 4).flat, _PENALTIES, strict=True):
        for k, name in enumerate(names):
            if kept := report["spaces"][name]["penalties"][key]:
                axis.bar(k, kept["mean"], yerr=kept["sem"], color=colours[name], capsize=4, width=0.7)
                low, middle, high = kept["quantiles"]
                axis.plot([k, k], [low, high], color="black", linewidth=0.6)
                axis.plot(k, middle, "_", color="black", markersize=10)
        axis.set_xticks(range(len(names)), names, rotation=30 if len(names) > 4 else 0)
        axis.set_title(key.replace("_", " "), fontsize=10)
        axis.set_ylim(bottom=0)
    figure.suptitle("Penalties: mean and standard error; thin lines from 5 to 95 %, a dash at the median.", fontsize=10)
    return figure


def _samples(report: dict[str, Any], pictures: dict[str, np.ndarray]) -> Any:
    rows = {"held out": pictures["held_out"], "generated\nno encoder": pictures["data.generated"]}
    for name in report["encoders"]:
        rows |= {f"{name}:\n{kind}": pictures[f"{name}.{kind}"] for kind in ("reconstructed", "generated")}
    channels, side, _ = report["shape"]
    gap, step = max(side // 8, 1), side + max(side // 8, 1)
    whole = np.ones((len(rows) * step - gap, COLUMNS * step - gap, 3 if channels == 3 else 1))
    for i, images in enumerate(rows.values()):
        for j, image in enumerate(images[:COLUMNS]):
            whole[i * step : i * step + side, j * step : j * step + side] = _shown(image)
    figure = new_figure(COLUMNS * 0.8 + 1.8, len(rows) * 0.85)
    axis = figure.subplots()
    axis.imshow(whole.squeeze(2) if channels != 3 else whole, cmap="gray", vmin=0, vmax=1, aspect="auto")
    axis.set_yticks([i * step + side / 2 - 0.5 for i in range(len(rows))], list(rows))
    axis.set_xticks([])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return figure


def _shown(image: np.ndarray) -> np.ndarray:
    """`[rows, columns, channels]` of [-1, 1]; of channels that are neither one nor three the first."""
    image = np.clip((image + 1) / 2, 0, 1).transpose(1, 2, 0)
    return image if image.shape[2] == 3 else image[:, :, :1]
