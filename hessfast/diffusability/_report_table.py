"""The report of an assessment as text: a column for each encoder, and what each row means."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ._consistency import Doubt

_SHOWN = (0.01, 1.0, 100.0)  # tau nearest to which deviations are printed
_PENALTIES = {
    "compression": "(D - d) / (D - m): share of the empty directions that is removed",
    "tangential_distortion": "|U'J'JU - 1| along the data: 0 keeps lengths",
    "anisotropy": "the same up to an overall scale: 0 keeps angles, 1 loses a direction",
    "secant_distortion": "||Ex - Ex'| / |x - x'| - 1| of neighbours",
    "bending": "second differences normal to the data's image, 1 / length",
    "metric_change": "and along it",
    "nonlinearity": "what J misses between neighbours, of the variance",
    "data_curvature": "1 / radius of the data themselves: no encoder changes it",
    "gpe_cost": "(log(1 + |Ex - Ex'|^2) - log(1 + |x - x'|^2))^2 over pairs",
}
_FORMS = {
    "plain": "FIR of latents over the data's, - 1: about (d - D) / D if nothing else differs",
    "per-dimension": "the same, times D / d",
    "normal-dimension": "the same, times (D - m) / (d - m): empty directions apart",
    "mmse-rate": "MMSE' of latents over the data's, - 1: 0 for flat isometries",
}
_PAIRINGS = {"equal_tau": "equal tau", "equal_snr": "equal SNR, total variance over noise"}


Line = str | tuple[str, list[str], str]  # as it is; or a label, a cell for each encoder, and what they mean


def table(report: dict[str, Any]) -> str:
    """Penalties, deviations and quality of every encoder, with standard errors."""
    blocks = _head(report), _encoders(report), _deviations(report), _quality(report), _doubts(report)
    return _laid_out([line for block in blocks for line in block])


def _laid_out(lines: list[Line]) -> str:
    cells = [cell for line in lines if not isinstance(line, str) for cell in line[1]]
    width = max((len(cell) for cell in cells), default=0) + 2
    return "\n".join(
        line if isinstance(line, str)
        else (f"{line[0]:<38}" + "".join(f"{cell:>{width}}" for cell in line[1]) + f"   {line[2]}").rstrip()
        for line in lines
    )  # fmt: skip


def _row(report: dict[str, Any], label: str, pick: Callable[[dict], str], meaning: str = "") -> Line:
    return label, [pick(report["spaces"][name]) for name in report["encoders"]], meaning


def _head(report: dict[str, Any]) -> list[Line]:
    dimension, (channels, side, _) = report["intrinsic_dimension"], report["shape"]
    return [
        f"Images of {channels} x {side} x {side}: {report['num_train']:,} to learn from, {report['num_held_out']:,} "
        f"held out; preset {report['preset']}, seed {report['settings']['seed']}. "
        f"D = {report['spaces']['data']['curve']['dim']}.",
        f"m = {dimension['value']}: {dimension['mean']:.2f} +- {dimension['sem']:.2f} from distances of neighbours.",
        "",
    ]


def _encoders(report: dict[str, Any]) -> list[Line]:
    return [
        ("", report["encoders"], ""),
        _row(report, "numbers in a latent, d", lambda s: str(s["curve"]["dim"])),
        _row(report, "scale of latents", lambda s: f"{s['scale']:.4g}",
             "by which raw latents are multiplied before diffusion"),
        _row(report, "reconstruction error", lambda s: _pm(s["reconstruction"]),
             "mean square of a number of held-out images"),
        "",
        "Penalties of raw latents, mean +- standard error over held-out images",
        *(
            _row(report, f"  {key.replace('_', ' ')}", lambda s, key=key: _pm(s["penalties"][key]), meaning)
            for key, meaning in _PENALTIES.items()
        ),
    ]  # fmt: skip


def _deviations(report: dict[str, Any]) -> list[Line]:
    tau = np.array(report["tau"])
    levels = sorted({int(np.abs(np.log(tau / shown)).argmin()) for shown in _SHOWN})
    lines: list[Line] = []
    for pairing, words in _PAIRINGS.items():
        lines += ["", f"Signed deviations at {words}; ? where the doubts below are about this tau"]
        for form, meaning in _FORMS.items():
            label = f"  {'FIR, ' + form if form in list(_FORMS)[:3] else 'MMSE rate'}"
            for k, level in enumerate(levels):
                lines.append(_row(
                    report, f"{'' if k else label:<24}tau = {tau[level]:.3g}",
                    lambda s, pairing=pairing, form=form, level=level:
                        _at(s["deviations"][pairing][form], level) + _mark(report, s, pairing, level),
                    "" if k else meaning,
                ))  # fmt: skip
            lines.append(_row(
                report, f"{'':<24}no network",
                lambda s, key=f"{pairing}_empirical", form=form:
                    f"{_at(s['deviations'][key][form], levels[-1] - len(tau))}  ",
                "of the data alone" if form == "plain" else "",
            ))  # fmt: skip
    return lines


def _mark(report: dict[str, Any], space: dict[str, Any], pairing: str, level: int) -> str:
    """Whether anything speaks against the curve of the data or of the latents where they are compared."""
    suffix = "" if pairing == "equal_tau" else "_equal_snr"
    for of, at in ((report["spaces"]["data"], ""), (space, suffix)):
        tau = np.array(of[f"curve{at}"]["tau"])
        if any(Doubt.from_dict(doubt).about(tau)[level] for doubt in (*of[f"warnings{at}"], *of[f"laws{at}"])):
            return " ?"
    return "  "


def _quality(report: dict[str, Any]) -> list[Line]:
    own = report["spaces"]["data"]["quality"]
    return [
        "",
        "Energy distances",
        _row(report, "  generated", lambda s: _number(s["quality"]["energy_distance"]),
             "decoded samples of latent diffusion against held-out images"),
        _row(report, "  generated, reconstructed",
             lambda s: _number(s["quality"]["energy_distance_to_reconstructions"]),
             "against reconstructions: what diffusion itself adds"),
        _row(report, "  reconstructed", lambda s: _number(s["quality"]["energy_distance_of_reconstructions"]),
             "reconstructions of half the held-out images against the others: what the encoder loses"),
        f"  of diffusion without an encoder {_number(own['energy_distance'])}; of training images "
        f"{_number(own['energy_distance_of_training_images'])}, 0 but for chance",
    ]  # fmt: skip


def _doubts(report: dict[str, Any]) -> list[Line]:
    notes = [*report["notes"]]
    for name, space in report["spaces"].items():
        for suffix, where in (("", name), ("_equal_snr", f"{name} at equal SNR")):
            for kind, prefix in (("warnings", ""), ("laws", "no distribution has such a curve: ")):
                notes += [f"{where}: {prefix}{Doubt.from_dict(doubt)}" for doubt in space.get(f"{kind}{suffix}", ())]
    return ["", "Doubts", *(f"  {note}" for note in notes)] if notes else []


def _pm(value: Any) -> str:
    if value is None:
        return "-"
    return _number(value) if isinstance(value, float | int) else f"{_number(value['mean'])} +- {value['sem']:.2g}"


def _at(deviation: dict[str, list] | None, level: int) -> str:
    if deviation is None or not -len(deviation["mean"]) <= level < len(deviation["mean"]):
        return "-"
    return f"{deviation['mean'][level]:+.3f} +- {deviation['sem'][level]:.2g}"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1e-3 or abs(value) >= 100 else f"{value:.4f}"
