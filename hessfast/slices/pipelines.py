"""Pipelines of diffusers, from a local folder or file."""

import contextlib
import copy
import importlib.util
import inspect
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hessfast import _checks
from hessfast._dispatch import present
from hessfast._fingerprint import fingerprint
from hessfast._modules import dtype_of

from . import loops
from ._double_steps import stepping
from ._extra import diffusers, transformers
from .diffusion import DiffusionGenerator, text_identity
from .generators import Generator, Prepared
from .plan import DTYPES, SlicePlan


def from_pretrained(
    path: str | Path,
    *,
    config: str | Path | None = None,
    device: Any = "cpu",
    dtype: str = "float32",
    compile: bool = False,
    graph: bool = False,
) -> Generator:
    """A model of diffusers from a local folder, or a single file; nothing is downloaded.

    Stable Diffusion (1.x, 2.x, XL) and unconditional pipelines run through this package's loop; other pipelines that
    take `latents` through their own. A folder of a UNet2DModel alone, with config.json, has diffusers' default noise.

    Args:
        path: folder with model_index.json or config.json; or a file .safetensors or .ckpt of a Stable Diffusion.
        config: for a single file, the folder of a pipeline of the same kind, for its configuration.
        device: where to compute, "cpu", "cuda" or "cuda:N".
        dtype: in which the weights are loaded; networks are cast to the plan's.
        compile: compile the U-Net and the decoder, a minute or more at first, then faster images.
        graph: run a micro-batch's loop as one CUDA graph.

    Raises:
        ImportError: without diffusers.
        FileNotFoundError: if there is no such folder or file.
        ValueError: if it is not of diffusers, or of a kind that does not take latents.
        BackendUnavailableError: if there is no such device.

    Example:
        >>> import tempfile
        >>> from .digits import digit_unet
        >>> folder = tempfile.mkdtemp()
        >>> digit_unet().save_pretrained(folder)
        >>> from_pretrained(folder).latent_shape
        (1, 8, 8)
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"path must be a folder or file of a diffusers model, got {path}, which is not there.")
    weights = getattr(torch, _checks.choice("dtype", dtype, DTYPES))
    present(device)
    package = diffusers()
    loading: dict[str, Any] = {"local_files_only": True}
    loading["low_cpu_mem_usage"] = importlib.util.find_spec("accelerate") is not None  # diffusers warns otherwise
    if path.is_file():
        if config is None:
            raise ValueError(f"config must be given for a single file, got None for {path.name}. Name a folder.")
        kind = json.loads((Path(config) / "model_index.json").read_text())["_class_name"]
        loaded = getattr(package, kind).from_single_file(str(path), config=str(config), **loading)
        return from_pipeline(_cast(loaded, weights), device=device, compile=compile, graph=graph)
    if (path / "model_index.json").exists():
        index = json.loads((path / "model_index.json").read_text())
        if any(part[:1] == ["transformers"] for part in index.values() if isinstance(part, list)):
            transformers()
        unwanted = {"safety_checker": None} if "safety_checker" in index else {}
        loaded = package.DiffusionPipeline.from_pretrained(str(path), **loading, **unwanted)
        return from_pipeline(_cast(loaded, weights), device=device, compile=compile, graph=graph)
    found = json.loads((path / "config.json").read_text()) if (path / "config.json").exists() else {}
    if found.get("_class_name") != "UNet2DModel":
        raise ValueError(f"path must hold model_index.json or a UNet2DModel, got {path}.")
    unet = nn.Module.to(package.UNet2DModel.from_pretrained(str(path), **loading), weights)
    named = path / "scheduler_config.json"
    settings = json.loads(named.read_text()) if named.exists() else {}
    scheduler = getattr(package, settings.get("_class_name", "DDIMScheduler")).from_config(settings)
    return DiffusionGenerator(unet, scheduler, device=device, compile=compile, graph=graph)


def _cast(pipeline: Any, dtype: torch.dtype) -> Any:
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            nn.Module.to(part, dtype)
    return pipeline


def from_pipeline(pipeline: Any, *, device: Any = "cpu", compile: bool = False, graph: bool = False) -> Generator:
    """A pipeline of diffusers that is already loaded; see `from_pretrained`.

    Raises:
        TypeError: for what is no pipeline.
        ValueError: for a pipeline of a kind that does not take latents.
        BackendUnavailableError: if there is no such device.

    Example:
        >>> from diffusers import DDPMPipeline, DDPMScheduler
        >>> from .digits import SCHEDULER, digit_unet
        >>> from_pipeline(DDPMPipeline(digit_unet(), DDPMScheduler(**SCHEDULER))).latent_shape
        (1, 8, 8)
    """
    if not isinstance(getattr(pipeline, "components", None), Mapping):
        raise TypeError(
            f"pipeline must be a pipeline of diffusers, got {type(pipeline).__name__}. Use "
            "from_pretrained for a folder, DiffusionGenerator for a U-Net and its scheduler."
        )
    parts: Mapping[str, Any] = pipeline.components
    unet: Any = parts.get("unet")
    decoder: Any = parts.get("vae") or parts.get("vqvae")
    options: dict[str, Any] = {"decoder": decoder, "device": device, "compile": compile, "graph": graph}
    if type(unet).__name__ == "UNet2DModel":
        return DiffusionGenerator(unet, pipeline.scheduler, **options)
    text = type(pipeline).__name__ in ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
    distilled = text and getattr(unet.config, "time_cond_proj_dim", None) is not None
    if text and not distilled and unet.config.in_channels == decoder.config.latent_channels:
        return DiffusionGenerator(unet, pipeline.scheduler, pipeline=pipeline, **options)
    if compile or graph:
        raise ValueError(f"compile and graph must be False for {type(pipeline).__name__}, got True.")
    return PipelineGenerator(pipeline, device)


@contextlib.contextmanager
def _stepped_by(pipeline: Any, scheduler: Any) -> Iterator[None]:
    """With another scheduler, of which a pipeline has one, that counts its steps; afterwards with its own."""
    own, pipeline.scheduler = pipeline.scheduler, scheduler
    try:
        yield
    finally:
        pipeline.scheduler = own


class PipelineGenerator(Generator):
    """Any pipeline of diffusers that takes `latents`, through its own loop (SD3, Flux, ...); its images are kept.

    Anchors have the shape in which the pipeline takes latents, without the batch. Text is encoded once a micro-batch.
    A plan's guidance is the pipeline's guidance_scale, as that pipeline defines it: mostly, 1 or less is none.
    """

    def __init__(self, pipeline: Any, device: Any = "cpu"):
        self.device, self._one_at_a_time = torch.device(present(device)), threading.Lock()
        self.pipeline = pipeline.to(self.device)
        self.pipeline.set_progress_bar_config(disable=True)
        self.scheduler = copy.deepcopy(pipeline.scheduler)
        self.accepts = set(inspect.signature(pipeline.__call__).parameters)
        if "latents" not in self.accepts:
            raise ValueError(f"pipeline must take latents, got {type(pipeline).__name__}, which does not.")
        modules = {name: part.eval() for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
        self.identity = {
            "pipeline": type(pipeline).__name__,
            "weights": {name: fingerprint(module) for name, module in sorted(modules.items())},
            "scheduler": loops.configuration(pipeline.scheduler),
            "device": self.device.type,
        }
        self.identity |= loops.defaults_of(pipeline.scheduler) | text_identity(pipeline)

    def prepare(self, plan: SlicePlan) -> Prepared:
        if plan.scheduler in ("ddim", "released"):
            raise ValueError(
                f'scheduler must be "pipeline" or one of diffusers for {type(self.pipeline).__name__}, '
                f"got {plan.scheduler!r}."
            )
        modules = [part for part in self.pipeline.components.values() if isinstance(part, nn.Module)]
        dtype = getattr(torch, plan.dtype)
        if any(dtype_of(module) != dtype for module in modules):
            raise ValueError(f"dtype must be the pipeline's, got {plan.dtype}. Load the pipeline with that dtype.")
        scheduler = self.scheduler
        if plan.scheduler != "pipeline":
            scheduler = loops.scheduler_of(plan.scheduler, scheduler)
        settings = self._settings(plan)
        loops.refuse_eta(scheduler, plan.eta)

        def latents(z: Tensor, ids: Sequence[int]) -> Tensor:
            per_point = {"num_images_per_prompt": len(z), "generator": [plan.generator(point) for point in ids]}
            if "num_images_per_prompt" not in self.accepts:
                per_point.pop("num_images_per_prompt")
            with self._one_at_a_time, _stepped_by(self.pipeline, stepping(scheduler, dtype)):
                return 2 * self.pipeline(latents=z.to(self.device, dtype), **settings, **per_point).images - 1

        return Prepared(latents, lambda x: x, self.device)

    def _settings(self, plan: SlicePlan) -> dict[str, Any]:
        """What a plan says, as arguments of the pipeline's call."""
        kind = type(self.pipeline).__name__
        for name, value, default in (
            ("eta", plan.eta, 0), ("prompt", plan.prompt, ""), ("negative_prompt", plan.negative_prompt, ""),
            ("guidance_scale", plan.guidance, 1),
        ):  # fmt: skip
            if value != default and name not in self.accepts:
                raise ValueError(f"{name} must be {default!r} for {kind}, which takes none, got {value!r}.")
        settings = {"guidance_scale": plan.guidance, "num_inference_steps": plan.num_steps, "output_type": "pt"}
        settings |= {"prompt": plan.prompt, "eta": plan.eta, "use_resolution_binning": False}
        settings |= {"negative_prompt": plan.negative_prompt} if plan.negative_prompt else {}
        side = getattr(self.pipeline, "vae_scale_factor", None)
        if side and len(plan.latent_shape) == 3:  # else some resize images to the model's own size
            settings |= {"height": side * plan.latent_shape[1], "width": side * plan.latent_shape[2]}
        return {name: value for name, value in settings.items() if name in self.accepts}
