"""What predicts the quality of latent diffusion: measurements of every encoder of the family, and rank correlations.

A record is one (encoder, latent dimension, seed): its latents' denoiser is trained, curves and penalties are measured,
images are generated and held against the reconstructions of held-out ones, so that the decoder is not judged again.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import rankdata

from hessfast.diffusability import (
    FisherCurve,
    digits,
    encoder_penalties,
    energy_distance,
    fir_deviation,
    fisher_curve,
    generate,
    mmse_rate_deviation,
    normalisation,
    snr_scale,
    train_denoiser,
)  # fmt: skip

from . import family
from .records import write

TAU = (0.1, 0.3, 1.0, 3.0)  # in units of the images squared, and of normalised latents
_TAU_RANGE = (1e-3, 400.0)  # of training; wide enough for equal signal-to-noise
_NEAR = 10  # dimensions of the tangent frames, or of the latents if those are fewer
_GENERATED = 1000
_PENALTIES = (
    "tangential_distortion", "anisotropy", "secant_distortion", "bending", "metric_change", "nonlinearity", "gpe_cost"
)  # fmt: skip
CONTROL = "decoder error"  # among the diagnostics, but no candidate for the best
QUALITY = "energy_distance"  # of generated images from reconstructions: lower is better


class Budget(NamedTuple):
    """Steps of the denoiser of latents (two of them: does the answer depend on it?), of data, and of encoders."""

    latent: tuple[int, ...]
    data: int
    encoder: int


def data_record(path: Path, seed: int, budget: Budget) -> None:
    """Curves of the images themselves, by a denoiser of their pixels."""
    train, held_out = digits()
    x, y = train.flatten(1), held_out.flatten(1)
    denoiser = train_denoiser(
        x, tau_range=_TAU_RANGE, num_steps=budget.data, batch_size=512, seed=seed,
    )  # fmt: skip
    made = generate(denoiser, _GENERATED, (x.shape[1],), seed=seed)
    record = {"curve": fisher_curve(denoiser, y, TAU, seed=seed).to_dict(), QUALITY: energy_distance(made, y)}
    write(path, record)


def encoder_record(path: Path, name: str, latent_dim: int, seed: int, budget: Budget, data: Path) -> None:
    """Everything of one encoder; written whole, or not at all."""
    train, held_out = digits()
    made = family.encoder(name, train, latent_dim, seed, budget.encoder, path.with_suffix(".encoder"))
    with torch.no_grad():
        raw, raw_held_out = made.encode(train), made.encode(held_out)
        seen = made.decode(raw_held_out)
        scaled = normalisation(raw)
    x, y = scaled(raw), scaled(raw_held_out)
    scale = snr_scale(train, x)
    of_data = FisherCurve.from_dict(json.loads(data.read_text())["curve"])
    budgets = []
    for steps in budget.latent:
        denoiser = train_denoiser(x, tau_range=_TAU_RANGE, num_steps=steps, batch_size=512, seed=seed)
        equal_noise = fisher_curve(denoiser, y, TAU, seed=seed)
        equal_ratio = fisher_curve(denoiser, y, np.multiply(TAU, scale**2), seed=seed)
        with torch.no_grad():
            images = made.decode(scaled.inverse(generate(denoiser, _GENERATED, (latent_dim,), seed=seed)))
        budgets.append({
            "steps": steps, QUALITY: energy_distance(images, seen),
            "energy_distance_from_images": energy_distance(images, held_out),
            "curve": equal_noise.to_dict(), "curve_at_equal_ratio": equal_ratio.to_dict(),
            "diagnostics": diagnostics(of_data, equal_noise, equal_ratio, scale),
        })  # fmt: skip
    penalties = encoder_penalties(made.encode, held_out, min(_NEAR, latent_dim), seed=seed)
    record = {
        "encoder": name, "latent_dim": latent_dim, "seed": seed, "scale": scaled.scale, "snr_scale": scale,
        "budgets": budgets,
        "decoder_error": float((seen - held_out).square().mean()),
        "penalties": {kind: getattr(penalties, kind).mean for kind in _PENALTIES},
    }  # fmt: skip
    write(path, record)


def diagnostics(data: FisherCurve, latent: FisherCurve, at_ratio: FisherCurve, scale: float) -> dict[str, float]:
    """Signed deviations, means over TAU of log ratios but for the plain form, which the paper states as a ratio."""

    def log_ratio(a: FisherCurve, name: str, factor: float = 1.0) -> float:
        ratio = factor * getattr(a, name).mean / getattr(data, name).mean
        return float(np.log(np.maximum(ratio, 1e-12)).mean())

    dims = data.dim / latent.dim
    return {
        "FIR deviation, equal noise": float(fir_deviation(data, latent, signed=True).mean.mean()),
        "FIR deviation, equal ratio": float(fir_deviation(data, at_ratio, scale=scale, signed=True).mean.mean()),
        "MMSE' deviation, equal noise": float(mmse_rate_deviation(data, latent, signed=True).mean.mean()),
        "MMSE' deviation, equal ratio": float(
            mmse_rate_deviation(data, at_ratio, scale=scale, signed=True).mean.mean()
        ),
        "FI a dimension, equal noise": log_ratio(latent, "fisher_information", dims),
        "FIR a dimension, equal noise": log_ratio(latent, "fisher_information_rate", dims),
        "FI a dimension, equal ratio": log_ratio(at_ratio, "fisher_information", dims * scale**2),
        "FIR a dimension, equal ratio": log_ratio(at_ratio, "fisher_information_rate", dims * scale**4),
        "MMSE, equal ratio": log_ratio(at_ratio, "mmse", scale**-2),
    }


def correlations(records: list[dict[str, Any]], budget: int, num_permutations: int = 10_000) -> dict[str, Any]:
    """Spearman's rank correlation of every diagnostic with the energy distance, within each latent dimension.

    Seeds are averaged first; `mean` is over dimensions; `partial` with the ranks of the decoder error taken out;
    `p` by permutations of the encoders, alike in all dimensions; `p_any` the same for the best of all diagnostics.
    """
    dims = sorted({record["latent_dim"] for record in records})
    tables = [_averaged([record for record in records if record["latent_dim"] == d], budget) for d in dims]
    names = [name for name in tables[0]["diagnostics"] if _tells(name, tables)]
    rng = np.random.default_rng(0)
    quality = [_ranks(table["quality"]) for table in tables]
    errors = [_ranks(table["decoder_error"]) for table in tables]
    signals = [np.stack([_ranks(table["diagnostics"][name]) for name in names]) for table in tables]
    within = np.stack([s @ q for s, q in zip(signals, quality, strict=True)])
    partial = np.stack([_partial(s, q, e) for s, q, e in zip(signals, quality, errors, strict=True)])
    varied = np.any([s.any(axis=1) for s in signals], axis=0)
    null = np.zeros((num_permutations, len(names)))
    # One order of the encoders for all dimensions: what is peculiar to an encoder is so in each of them.
    orders = np.stack([rng.permutation(len(quality[0])) for _ in range(num_permutations)])
    for s, q in zip(signals, quality, strict=True):
        null += q[orders] @ s.T / len(dims)
    mean = within.mean(axis=0)
    beyond = np.abs(null) >= np.abs(mean) - 1e-12
    best = np.abs(null[:, [name != CONTROL for name in names]]).max(axis=1)
    return {
        "dimensions": dims, "encoders": len(tables[0]["quality"]), "seeds": len({r["seed"] for r in records}),
        "chance": {"one": float(np.quantile(np.abs(null[:, varied]), 0.95)), "best": float(np.quantile(best, 0.95))},
        "seeds_agree": [table["agreement"] for table in tables],
        "diagnostics": {
            name: {
                "within": within[:, k].tolist(), "mean": float(mean[k]), "partial": float(partial[:, k].mean()),
                "p": float((1 + beyond[:, k].sum()) / (1 + num_permutations)),
                "p_any": float((1 + (best >= abs(mean[k]) - 1e-12).sum()) / (1 + num_permutations)),
            }
            for k, name in enumerate(names)
        },
    }  # fmt: skip


def by_encoder(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Per latent dimension and encoder: energy distance at the greatest budget and decoder error, of every seed."""
    rows: dict[str, Any] = {}
    for record in records:
        row = rows.setdefault(str(record["latent_dim"]), {}).setdefault(record["encoder"], {"quality": [], "error": []})
        row["quality"].append(record["budgets"][-1][QUALITY])
        row["error"].append(record["decoder_error"])
    return rows


def _averaged(records: list[dict[str, Any]], budget: int) -> dict[str, Any]:
    """Means over seeds, encoder by encoder, of one latent dimension; and how far the seeds rank encoders alike."""
    names = sorted({record["encoder"] for record in records})
    seeds = sorted({record["seed"] for record in records})
    found = {(record["encoder"], record["seed"]): record for record in records}

    def mean(value) -> np.ndarray:
        return np.array([np.mean([value(found[name, seed]) for seed in seeds]) for name in names])

    signed = list(records[0]["budgets"][budget]["diagnostics"])
    result = {name: mean(lambda r, name=name: r["budgets"][budget]["diagnostics"][name]) for name in signed}
    result |= {f"|{name}|": np.abs(result[name]) for name in signed}
    result |= {name: mean(lambda r, name=name: r["penalties"][name]) for name in _PENALTIES}
    result[CONTROL] = error = mean(lambda r: r["decoder_error"])
    each = np.array([[found[name, seed]["budgets"][budget][QUALITY] for name in names] for seed in seeds])
    ranks = np.stack([_ranks(row) for row in each])
    pairs = (ranks @ ranks.T)[np.triu_indices(len(seeds), 1)]
    agreement = float(pairs.mean()) if len(pairs) else None
    return {"quality": each.mean(axis=0), "decoder_error": error, "diagnostics": result, "agreement": agreement}


def _tells(name: str, tables: list[dict[str, Any]]) -> bool:
    """Whether an absolute value ranks otherwise than its signed number does."""
    signed = [table["diagnostics"].get(name.strip("|")) for table in tables] if name.startswith("|") else []
    return not signed or any(values.min() < 0 < values.max() for values in signed)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks with mean 0 and norm 1: their product is Spearman's coefficient. Of equal values, zeros."""
    ranks = rankdata(values)
    ranks -= ranks.mean()
    return ranks / max(float(np.linalg.norm(ranks)), 1e-300)


def _partial(signals: np.ndarray, quality: np.ndarray, error: np.ndarray) -> np.ndarray:
    def rest(a: np.ndarray) -> np.ndarray:
        left = a - (a @ error)[..., None] * error
        norm = np.linalg.norm(left, axis=-1, keepdims=True)
        return np.where(norm > 1e-9, left / np.maximum(norm, 1e-9), 0)

    return rest(signals) @ rest(quality)
