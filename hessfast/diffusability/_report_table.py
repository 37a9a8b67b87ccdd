"""The report of an assessment as text: a column for each encoder, and what each row means."""

from typing import Any

import numpy as np

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


def table(report: dict[str, Any]) -> str:
    """Penalties, deviations and quality of every encoder, with standard errors."""
    names = report["encoders"]
    spaces, data, dimension = report["spaces"], report["spaces"]["data"], report["intrinsic_dimension"]
    width = max([19, *(len(name) + 2 for name in names)])

    def line(label: str, cells: list[str], meaning: str = "") -> str:
        return (f"{label:<38}" + "".join(f"{cell:>{width}}" for cell in cells) + f"   {meaning}").rstrip()

    def row(label: str, pick, meaning: str = "") -> str:
        return line(label, [pick(spaces[name]) for name in names], meaning)

    channels, side, _ = report["shape"]
    lines = [
        f"Images of {channels} x {side} x {side}: {report['num_train']:,} to learn from, {report['num_held_out']:,} "
        f"held out; preset {report['preset']}, seed {report['settings']['seed']}. D = {data['curve']['dim']}.",
        f"m = {dimension['value']}: MMSE / tau = {dimension['mmse_over_tau']:.2f} +- "
        f"{dimension['mmse_over_tau_sem']:.2f} at tau = {dimension['tau']:.3g}, the least noise at which the data "
        "alone tell it.",
        "",
        line("", names),
        row("numbers in a latent, d", lambda s: str(s["curve"]["dim"])),
        row("scale of latents", lambda s: f"{s['scale']:.4g}", "by which raw latents are multiplied before diffusion"),
        row("reconstruction error", lambda s: _pm(s["reconstruction"]), "mean square of a number of held-out images"),
        "",
        "Penalties of raw latents, mean +- standard error over held-out images",
    ]
    for key, meaning in _PENALTIES.items():
        lines.append(row(f"  {key.replace('_', ' ')}", lambda s, key=key: _pm(s["penalties"][key]), meaning))
    tau = np.array(report["tau"])
    levels = sorted({int(np.abs(np.log(tau / shown)).argmin()) for shown in _SHOWN})
    for pairing, words in _PAIRINGS.items():
        lines += ["", f"Signed deviations at {words}"]
        for form, meaning in _FORMS.items():
            for k, level in enumerate(levels):
                label = f"  {'FIR, ' + form if form in list(_FORMS)[:3] else 'MMSE rate'}" if k == 0 else ""
                lines.append(row(
                    f"{label:<24}tau = {tau[level]:.3g}",
                    lambda s, pairing=pairing, form=form, level=level: _at(s["deviations"][pairing][form], level),
                    meaning if k == 0 else "",
                ))  # fmt: skip
            lines.append(row(
                f"{'':<24}no network",
                lambda s, key=f"{pairing}_empirical", form=form: _at(s["deviations"][key][form], levels[-1] - len(tau)),
                "of the data alone" if form == "plain" else "",
            ))  # fmt: skip
    lines += [
        "",
        "Energy distances",
        row("  generated", lambda s: _number(s["quality"]["energy_distance"]),
            "decoded samples of latent diffusion against held-out images"),
        row("  generated, reconstructed", lambda s: _number(s["quality"]["energy_distance_to_reconstructions"]),
            "against reconstructions: what diffusion itself adds"),
        row("  reconstructed", lambda s: _number(s["quality"]["energy_distance_of_reconstructions"]),
            "reconstructions of half the held-out images against the others: what the encoder loses"),
        f"  of diffusion without an encoder {_number(data['quality']['energy_distance'])}; of training images "
        f"{_number(data['quality']['energy_distance_of_training_images'])}, 0 but for chance",
    ]  # fmt: skip
    notes = [*report["notes"]]
    for name, space in spaces.items():
        notes += [f"{name}: {sentence}" for sentence in space["warnings"]]
        notes += [f"{name}: no distribution has such a curve: {sentence}" for sentence in space["laws"]]
    return "\n".join([*lines, *(["", "Doubts", *(f"  {note}" for note in notes)] if notes else [])])


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
