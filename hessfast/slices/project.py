"""A folder in which a slice is made, from the model to the report: what ``hessfast slice`` does, for Python.

project = SliceProject.begin("slice-demo", num_steps=16)
project.generate()                                # slice-demo/slice; several processes share the work
project.fit().held_out["nats"]                    # slice-demo/geometry
project.zoom().finest                             # slice-demo/zoom-float32
project.report()                                  # slice-demo/curves, maps, figures, report.html
"""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hessfast import _atomic, _checks, _figures, shards
from hessfast._dispatch import device_kind, present
from hessfast._distributed import local_device
from hessfast._steps import Steps
from hessfast.posterior import Grid

from ._windows import steepest
from .diffusion import digit_generator
from .digits import digit_classifier
from .features import clip_features, feature_map
from .fit import Geometry, fit
from .forecast import Forecast, forecast
from .generate import generate, shard_job
from .generators import Generator
from .paths import ENDS, compare
from .perceptual import digit_perception
from .pipelines import from_pretrained
from .plan import SlicePlan, random_anchors
from .report import measure_maps, verdict, write_report
from .zoom import Zoom, zoom

COMMAND, PLAN = "command.json", "plan.safetensors"
KEPT = ("latents", "features", "images")
CLUSTERS = 6  # classes where there is no classifier


class SliceProject:
    """The folder of a slice, every part of it made by the part before, and gone on with where it was interrupted.

    Args:
        folder: one that `begin` began.
        device: "cpu", "cuda" or "cuda:N", of the kind with which it was begun; None: that kind. Under torchrun "cuda"
            means one GPU for each process.
        say: told what is begun; bars are then shown as well, if stderr is a terminal.

    Attributes:
        options: names of the model and the features, the kind of device, and whether to compile.
        plan: of the slice.

    Raises:
        FileNotFoundError: if the folder holds no slice.
        ValueError: if its files are damaged, or for a device of another kind.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> _ = SliceProject.begin(folder, points_per_axis=3, num_steps=1).generate()
        >>> SliceProject(folder).store["images"].shape
        (9, 1, 8, 8)
    """

    def __init__(self, folder: str | Path, *, device: str | None = None, say: Callable[[str], None] | None = None):
        self.folder, read = Path(folder).absolute(), []
        for path, reader in ((self.folder / COMMAND, _options), (self.folder / PLAN, SlicePlan.load)):
            try:
                read.append(reader(path))
            except (FileNotFoundError, NotADirectoryError):
                raise FileNotFoundError(
                    f"{folder} holds no slice. Make one with: hessfast slice generate {folder}"
                ) from None
            except (ValueError, TypeError, KeyError):
                raise ValueError(
                    f"{path} is damaged; run hessfast slice generate {folder} with its options again, which mends it."
                ) from None
        self.options: dict[str, Any] = read[0]
        self.plan: SlicePlan = read[1]
        if device is not None and device_kind(device) != self.options["device"]:
            raise ValueError(f"device must be of the slice's kind, {self.options['device']}, got {device!r}.")
        self.device, self.say, self.shows = device or self.options["device"], say or (lambda _: None), say is not None

    @classmethod
    def begin(
        cls,
        folder: str | Path,
        *,
        model: str = "digits",
        features: str = "digits",
        points_per_axis: int = 64,
        lower: float = 0.0,
        upper: float = 1.0,
        seed: int = 0,
        device: str = "cpu",
        compile: bool = False,
        say: Callable[[str], None] | None = None,
        **settings: Any,
    ) -> "SliceProject":
        """A new folder's project, or an old one's of the same arguments; any number of processes may begin it.

        Everything is tried before the folder is touched: what is refused leaves no folder that must be deleted.

        Args:
            folder: created if need be.
            model: "digits", the shipped one, or a folder of diffusers; see `from_pretrained`.
            features: "digits", "pixels", see `feature_map`, or "ARCHITECTURE:FILE" of a CLIP, see `clip_features`.
            points_per_axis: of the slice, between three random anchors.
            lower, upper: of both coordinates; anchors are at (0, 0), (1, 0) and (0, 1).
            seed: of the anchors and of noise.
            device: see `SliceProject`; which GPU it is may differ from one process or run to the next.
            compile: see `from_pretrained`.
            say: see `SliceProject`.
            settings: further ones of `SlicePlan`.

        Raises:
            FileNotFoundError, ImportError: see `from_pretrained`.
            RuntimeError: without the GPU that was asked for.
            ValueError, TypeError: for arguments that do not fit together, or the folder of another slice.
        """
        generator, described, plan, command = _chosen(
            model, features, points_per_axis, lower, upper, seed, device, compile, **settings
        )
        steps = Steps(folder)
        if not _is_whole(steps.folder):
            store = steps.folder / "slice"
            shards.check(store, shard_job(plan, generator, described, keep=KEPT, begun=store)[0])
            # A slice whose command is lost or damaged: its store says whose it is. A new one's plan comes after it.
            if (steps.folder / PLAN).exists() and not _is_whole(steps.folder):
                steps.share(COMMAND, _atomic.json_bytes(command))
        steps.claim(command, COMMAND)
        steps.share(PLAN, plan.to_bytes())
        project = cls(folder, device=device, say=say)
        project.generator, project.features = generator, described  # they are large
        return project

    @staticmethod
    def forecast(folder: str | Path, *, say: Callable[[str], None] | None = None, **arguments: Any) -> Forecast:
        """What `generate` would still do after `begin` of the same arguments; nothing is written, or said."""
        generator, described, plan, _ = _chosen(**arguments)
        return forecast(plan, generator, Path(folder) / "slice", described, keep=KEPT)

    @functools.cached_property
    def generator(self) -> Generator:
        """The model."""
        return self._of_the_store("generator", _model(self.options["model"], self.device, self.options["compile"]))

    @functools.cached_property
    def features(self) -> Any:
        """What the images are seen by; see `feature_map`."""
        return self._of_the_store("features", feature_map(_features(self.options["features"])))

    def _of_the_store(self, part: str, found: Any) -> Any:
        """Generator or features, refused if they are not those that the images were made by."""
        with contextlib.suppress(FileNotFoundError):
            made_by = shards.read_plan(self.folder / "slice").parameters[part]
            if made_by != json.loads(json.dumps(found.identity)):
                name = {"generator": "model"}.get(part, part)
                raise ValueError(
                    f"{name} must be what the slice was made by, got {self.options[name]!r}, which has changed since."
                )
        return found

    @property
    def store(self) -> shards.Store:
        """Points, latents, features and images.

        Raises:
            FileNotFoundError: before `generate`.
            ValueError: until all of them are made.
        """
        if not (self.folder / "slice" / "plan.json").exists():
            raise FileNotFoundError(
                f"{self.folder} holds no images. Make them with: hessfast slice generate {self.folder}"
            )
        return shards.open(self.folder / "slice")

    def classify(self, features: np.ndarray) -> np.ndarray:
        """Classes `[n]` of features `[n, d]`: digits by their classifier, others by six clusters of the features."""
        if self.options["features"] == "digits":
            return digit_classifier().logits(torch.tensor(features, dtype=torch.float32)).argmax(dim=1).numpy()
        from scipy.cluster.vq import kmeans2

        options: dict[str, Any] = {"minit": "++", "seed": 0}  # the seed's name has changed between versions of SciPy
        return kmeans2(features.astype(float), min(CLUSTERS, len(features)), **options)[1]

    def generate(self) -> shards.Store:
        """Every image, in `slice`; see `hessfast.slices.generate`."""
        self.say(f"{self.plan.num:,} images of {self.options['model']}, {self.plan.num_steps} steps each")
        return generate(self.plan, self.generator, self.folder / "slice", self.features, keep=KEPT, progress=self.shows)

    def fit(self, points_per_axis: int | None = None, num_steps: int = 1500, seed: int = 0) -> Geometry:
        """log Z and the metric, in `geometry`; see `hessfast.slices.fit`.

        Raises:
            FileNotFoundError: before `generate`.
            ValueError: until all images are made.
        """
        _ = self.store  # or which command makes it
        return fit(
            self.folder / "slice", self.folder / "geometry", classify=self.classify, points_per_axis=points_per_axis,
            num_steps=num_steps, seed=seed, say=self.say,
        )  # fmt: skip

    @property
    def geometry(self) -> Geometry:
        """What `fit` learned, or goes on to learn, with the settings that it was begun with.

        Raises:
            FileNotFoundError: before a fit.
            ValueError: if its settings are damaged.
        """
        path = self.folder / "geometry" / "settings.json"
        try:
            made = json.loads(path.read_bytes())
            settings = [made[name] for name in ("points_per_axis", "num_steps", "seed")]
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.folder} holds no fit. Make one with: hessfast slice fit {self.folder}"
            ) from None
        except (ValueError, TypeError, KeyError):
            raise ValueError(f"{path} is damaged; delete {path.parent} and fit again.") from None
        return self.fit(*settings)

    def zoom(self, dtype: str | None = None, points_per_axis: int = 9, levels: int = 64) -> Zoom:
        """A series of windows around the sharpest boundary, in `zoom-DTYPE`; see `hessfast.slices.zoom`."""
        dtype = dtype or self.plan.dtype
        store = shards.open(self.store.folder, verify=True)  # a damaged number would be the steepest place
        first = steepest(self.plan.points, np.asarray(store["features"][:]), points_per_axis)
        self.say(f"zoom in {dtype}")
        folder = self.folder / f"zoom-{dtype}"
        try:
            return zoom(
                self.plan.at(first, dtype=dtype), self.generator, folder, self.features,
                points_per_axis=points_per_axis, max_levels=levels, keep=["images"], progress=self.shows,
            )  # fmt: skip
        except shards.OtherPlanError:
            raise ValueError(
                f"{folder} holds another zoom. Zoom with its options, or delete {folder} to zoom anew."
            ) from None

    def report(self, pairs: int = 100, maps: int = 24, seed: int = 0, ends: str = "across") -> tuple[Path, str | None]:
        """Paths, in `curves/ENDS-PAIRS-SEED`; maps, in `maps/NUM`; and the page of all there is; after `fit`.

        Args:
            pairs: of points, joined by every kind of path; 0: no paths.
            maps: nodes along each axis of Lipschitz and noise maps; 0: no maps.
            seed: of the pairs.
            ends: of the paths, "across" a boundary or "random", as in the paper; see `compare`.

        Returns:
            The page, and in words what the paths have shown; None without paths.

        Raises:
            FileNotFoundError: before a fit.
            ImportError: without matplotlib.
            ValueError: for one pair, or maps too small for neighbours, or an unfinished slice.
        """
        check_report(pairs, maps)
        _checks.choice("ends", ends, ENDS)
        seed, geometry, store = _checks.seed(seed), self.geometry, self.store
        classes = self.classify(np.asarray(store["features"][:]))
        compared, mapped, curves = None, None, self.folder / "curves" / f"{ends}-{pairs}-{seed}"
        if pairs:
            self.say(f"images along paths between {pairs} pairs")
            perceptual = digit_perception() if self.options["features"] == "digits" else None
            compared = compare(
                self.plan, self.generator, curves, self.features, geometry, self.folder / "slice", classes=classes,
                perceptual=perceptual, ends=ends, num_pairs=pairs, seed=seed, progress=self.shows,
            )  # fmt: skip
        if maps:
            self.say(f"Lipschitz constants and noise floor at {maps} x {maps} nodes")
            mapped = measure_maps(self.plan, self.generator, self.folder / "maps" / str(maps), self.features, maps)
        self.say("report")
        zoomed: dict[str, str | Path] = {
            path.parent.name.removeprefix("zoom-"): path.parent for path in sorted(self.folder.glob("zoom-*/zoom.json"))
        }
        path = write_report(
            self.folder, self.plan, store, geometry, maps=mapped, compared=compared, curves=curves if pairs else None,
            zoomed=zoomed, classes=classes,
            provenance={"command": self.options | {"plan": self.plan.hash}, "generator": self.generator.identity},
        )  # fmt: skip
        return path, verdict(compared) if compared else None


def check_report(pairs: int, maps: int) -> None:
    """Refuse sizes that a report cannot have, or one that cannot be drawn, before the work."""
    for name, value, least, what in (("pairs", pairs, 2, "paths"), ("maps", maps, 3, "maps")):
        if _checks.integer(name, value, 0) not in (0, *range(least, value + 1)):
            raise ValueError(f"{name} must be 0 for no {what}, or >= {least}, got {value}.")
    if not _figures.available():
        raise ImportError("matplotlib must be installed for reports. Run pip install 'hessfast[plot]'.")


def _model(name: str, device: str, compile: bool) -> Generator:
    if not isinstance(name, str | Path):
        raise TypeError(f"model must be digits or a folder, got {name!r:.80}. For a model of your own use generate.")
    options: dict[str, Any] = {"device": local_device(present(device)), "compile": compile}
    return digit_generator(**options) if name == "digits" else from_pretrained(name, **options)


def _features(name: str) -> Any:
    if not isinstance(name, str):
        raise TypeError(
            f"features must be digits, pixels or ARCHITECTURE:FILE, got {name!r:.80}. "
            "For features of your own use generate."
        )
    if name in ("digits", "pixels"):
        return name
    if ":" not in name:
        raise ValueError(f"features must be digits, pixels or ARCHITECTURE:FILE, got {name!r}.")
    return clip_features(*name.split(":", 1))


def _chosen(
    model="digits", features="digits", points_per_axis=64, lower=0.0, upper=1.0, seed=0, device="cpu", compile=False,
    **settings,
) -> tuple[Generator, Any, SlicePlan, dict[str, Any]]:  # fmt: skip
    """Model, features and plan of the arguments of `begin`, and what stands for them in a folder."""
    known = {field.name for field in dataclasses.fields(SlicePlan)} - {"anchors", "points"}
    if settings.keys() - known:
        raise TypeError(f"settings must be some of {', '.join(sorted(known))}, got {sorted(settings.keys() - known)}.")
    points_per_axis = _checks.integer("points_per_axis", points_per_axis, 2)
    lower, upper = _checks.number("lower", lower), _checks.number("upper", upper)
    if not lower < upper:
        raise ValueError(f"upper must be above lower, got {upper:g} and {lower:g}.")
    generator, described = _model(model, device, compile), _features(features)
    if generator.latent_shape is None:
        raise ValueError(f"model must tell the shape of its latents, as U-Nets of diffusers do, got {model!r}.")
    grid = Grid((lower,) * 2, (upper,) * 2, (points_per_axis,) * 2)
    plan = SlicePlan(random_anchors(generator.latent_shape, seed=seed), grid, seed=seed, **settings)
    command = _absolute(model, features) | {"device": device_kind(device), "plan": plan.to_dict()}
    if compile:  # folders that were begun before there was a choice do not say
        command["compile"] = True
    return generator, described, plan, command


def _absolute(model: Any, features: str) -> dict[str, str]:
    """Names of files and folders that are good from everywhere."""
    architecture, colon, path = features.partition(":")
    return {
        "model": model if model == "digits" else str(Path(model).resolve()),
        "features": f"{architecture}:{Path(path).resolve()}" if colon else features,
    }


def _options(path: Path) -> dict[str, Any]:
    fields = json.loads(path.read_bytes())
    named = {name: str(fields[name]) for name in ("model", "features", "device")}
    return named | {"compile": bool(fields.get("compile", False))}


def _is_whole(folder: Path) -> bool:
    """Whether a command is there and can be read."""
    try:
        return bool(_options(folder / COMMAND))
    except (OSError, ValueError, TypeError, KeyError):
        return False
