"""U-Nets of diffusers through this package's loop: guided by text, decoded by an autoencoder, or neither."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hessfast import _atomic
from hessfast._compile import compiled, refusal
from hessfast._dispatch import present
from hessfast._fingerprint import fingerprint
from hessfast._modules import dtype_of

from . import loops
from ._extra import diffusers
from .digits import SCHEDULER, digit_unet
from .generators import Generator, Prepared
from .plan import SlicePlan

DECODE_AT_ONCE = 16  # a VAE's decoder at 512 x 512 overflows 32-bit offsets with twice as many images


class DiffusionGenerator(Generator):
    """A U-Net of diffusers with its scheduler, and a decoder and encoded text if it has them.

    Args:
        unet: UNet2DModel or UNet2DConditionModel.
        scheduler: of diffusers, for the noise levels and the kind of prediction.
        decoder: an autoencoder of diffusers (AutoencoderKL, VQModel); None: latents are images.
        pipeline: the pipeline whose text encoders are used; None: the model has no text.
        device: where to compute, "cpu", "cuda" or "cuda:N"; the networks are moved there.
        compile: compile the U-Net and the decoder with torch.compile, a minute or more at first, then faster images.
        graph: run a micro-batch's loop as one CUDA graph; on a GPU, for "ddim" and "released".

    Raises:
        BackendUnavailableError: if there is no such device.
        ValueError: for a graph elsewhere than on a GPU, or a U-Net that wants text without a pipeline, or class labels.
        RuntimeError: for `compile`, once the networks are called, where torch.compile fails.
    """

    def __init__(
        self,
        unet: nn.Module,
        scheduler: Any,
        *,
        decoder: nn.Module | None = None,
        pipeline: Any = None,
        device: Any = "cpu",
        compile: bool = False,
        graph: bool = False,
    ):
        self.device, self.compile, self.graph = torch.device(present(device)), bool(compile), bool(graph)
        if self.graph and self.device.type != "cuda":
            raise ValueError(f"device must be a GPU for graph=True, got {self.device}.")
        config: Any = unet.config
        if any(getattr(config, name, None) is not None for name in ("class_embed_type", "num_class_embeds")):
            raise ValueError(
                "unet must do without class labels, got one that wants them. Pass from_callable a function that gives "
                "it those of a class."
            )
        if type(unet).__name__ == "UNet2DConditionModel" and pipeline is None:
            raise ValueError(
                "pipeline must be given for a UNet2DConditionModel, got None: its text encoders are needed."
            )
        if getattr(config, "time_cond_proj_dim", None) is not None:
            raise ValueError(
                "unet must do without an embedding of the guidance, got one distilled for it. Use PipelineGenerator."
            )
        if type(decoder).__name__ == "ConsistencyDecoderVAE":
            raise ValueError("decoder must give one image for a latent, got ConsistencyDecoderVAE, which draws noise.")
        self.scheduler, self.pipeline = scheduler, pipeline
        encoders = [] if pipeline is None else [getattr(pipeline, f"text_encoder{k}", None) for k in ("", "_2")]
        parts = {"unet": unet, "decoder": decoder, **{f"text{k}": encoder for k, encoder in enumerate(encoders)}}
        found = {name: module for name, module in parts.items() if module is not None}
        self.identity = {
            "weights": {name: fingerprint(module) for name, module in found.items()},
            "scheduler": loops.configuration(scheduler),
            "compile": sorted({"unet", "decoder"} & found.keys()) if self.compile else False,
            "device": self.device.type,
        }
        self.identity |= loops.defaults_of(scheduler) | text_identity(pipeline)
        if self.device.type == "cuda":  # so that nothing is continued that was made with the other
            self.identity["layout"] = "channels last" if self.compile else "channels first"
        for module in found.values():
            module.eval().requires_grad_(False).to(self.device)
            if self.device.type == "cuda":
                nn.Module.to(module, memory_format=torch.contiguous_format)
        side = config.sample_size
        rows, columns = side if isinstance(side, (tuple, list)) else (side, side)
        self.latent_shape = None if rows is None else (config.in_channels, rows, columns)
        self._unet: dict[torch.dtype | None, Any] = {dtype_of(unet): unet}
        self._decoder = None if decoder is None else {dtype_of(decoder): decoder}
        self._compiled: dict[nn.Module, Callable[..., Any]] = {}

    def prepare(self, plan: SlicePlan) -> Prepared:
        dtype = getattr(torch, plan.dtype)
        unet = _cast(self._unet, dtype)
        self._fits(plan, unet.config)
        network = self._maybe_compiled(unet)
        text = self._text(plan, dtype)
        # Half-precision networks, but x is summed up in float32: fifty roundings less.
        state = torch.float64 if dtype == torch.float64 else torch.float32
        scheduler, schedule = self.scheduler, None
        if plan.scheduler in ("ddim", "released"):
            released = plan.scheduler == "released"
            schedule = loops.ddim(scheduler, plan.num_steps, plan.eta, released=released, device=self.device)
        elif self.graph:
            raise ValueError(f'scheduler must be "ddim" or "released" for graph=True, got {plan.scheduler!r}.')
        else:
            own = plan.scheduler == "pipeline"
            scheduler = loops.steppable(scheduler) if own else loops.scheduler_of(plan.scheduler, scheduler)
            loops.refuse_eta(scheduler, plan.eta)

        def predict_for(num: int) -> loops.Predict:
            return _guided(network, _repeated(text, num), plan.guidance, dtype)

        def warm_up() -> None:
            x = torch.zeros((plan.micro_batch, *plan.latent_shape), device=self.device, dtype=state)
            predict_for(plan.micro_batch)(x, torch.zeros((), dtype=torch.int64, device=self.device))

        def loop(x: Tensor, *noise: Tensor) -> Tensor:
            assert schedule is not None
            return schedule.run(predict_for(len(x)), x, *noise)

        run: Callable[..., Tensor] = loops.Captured(loop) if self.graph else loop

        def latents(z: Tensor, ids: Sequence[int]) -> Tensor:
            x = z.to(self.device, state)
            if schedule is None:
                generators = [plan.generator(point) for point in ids]
                return loops.own_steps(scheduler, plan.num_steps, predict_for(len(x)), x, plan.eta, generators)
            noise = plan.noise(ids)
            return run(x) if noise is None else run(x, noise.to(self.device, state))

        needed = warm_up if self.compile else None
        return Prepared(latents, self._decode(dtype), self.device, plan.latent_shape, needed)

    def plain(self) -> "DiffusionGenerator":
        other = copy.copy(self)
        other.compile = other.graph = False
        return other

    def _fits(self, plan: SlicePlan, config: Any) -> None:
        halved = 2 ** (len(config.block_out_channels) - 1)
        shape = plan.latent_shape
        if len(shape) != 3 or shape[0] != config.in_channels or any(side % halved for side in shape[1:]):
            raise ValueError(
                f"anchors must have shape [n, {config.in_channels}, rows, columns], both multiples of {halved}, "
                f"for this model, got {plan.anchors.shape}."
            )
        if self.pipeline is None and (plan.guidance != 1 or plan.prompt or plan.negative_prompt):
            raise ValueError("guidance must be 1 and prompts empty for a model without text, got others.")

    def _text(self, plan: SlicePlan, dtype: torch.dtype) -> list[dict[str, Tensor]]:
        """What the U-Net is told of the prompt, and with guidance of the negative one before it; for one image."""
        if self.pipeline is None:
            return [{}]
        guided = plan.guidance != 1
        larger = hasattr(self.pipeline, "text_encoder_2")
        with torch.no_grad():
            encoded = self.pipeline.encode_prompt(
                plan.prompt,
                device=self.device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=guided,
                negative_prompt=plan.negative_prompt or None,
            )
        embeds = [encoded[1], encoded[0]] if guided else [encoded[0]]
        told: list[dict[str, Any]] = [{"encoder_hidden_states": e.to(self.device, dtype)} for e in embeds]
        if larger:  # SDXL also wants pooled text, and the size of the picture it is part of
            pooled = [encoded[3], encoded[2]] if guided else [encoded[2]]
            size = [side * self.pipeline.vae_scale_factor for side in plan.latent_shape[1:]]
            ids = torch.tensor([[*size, 0, 0, *size]], device=self.device, dtype=dtype)
            for each, p in zip(told, pooled, strict=True):
                each["added_cond_kwargs"] = {"text_embeds": p.to(self.device, dtype), "time_ids": ids}
        return told

    def _decode(self, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        if self._decoder is None:
            return lambda x: x
        config: Any = next(iter(self._decoder.values())).config
        if getattr(config, "force_upcast", False) and dtype == torch.float16:
            dtype = torch.float32
        decoder = _cast(self._decoder, dtype)
        units = self._units(config)
        to_images = self._maybe_compiled(decoder, "decode")

        def decode(latents: Tensor) -> Tensor:
            x = units(latents).to(dtype)
            return torch.cat([to_images(part, return_dict=False)[0] for part in x.split(DECODE_AT_ONCE)])

        return decode

    def _units(self, config: Any) -> Callable[[Tensor], Tensor]:
        """Latents as the decoder takes them; of what its configuration tells, pipelines of diffusers use a part."""
        xl = hasattr(self.pipeline, "text_encoder_2")
        moments = [getattr(config, name, None) for name in ("latents_mean", "latents_std")]
        if None not in moments and (xl or self.pipeline is None):
            mean, std = (torch.tensor(each, device=self.device)[:, None, None] for each in moments)
            return lambda x: x * std.to(x) / config.scaling_factor + mean.to(x)
        shift = getattr(config, "shift_factor", None) if self.pipeline is None else None
        return lambda x: x / config.scaling_factor + (shift or 0.0)

    def _maybe_compiled(self, network: nn.Module, method: str | None = None) -> Callable[..., Any]:
        """The network, or a method of it."""
        if not self.compile:
            return _called(network, method)
        if network not in self._compiled:
            # Tensor cores want the channels of a pixel beside each other. Compiled group norms leave them so, those of
            # torch do not, and the copies between them cost more than the order saves.
            fast = _channels_last(network) if self.device.type == "cuda" else network
            self._compiled[network] = _compiled(_called(fast, method))
        return self._compiled[network]


def _called(network: nn.Module, method: str | None) -> Callable[..., Any]:
    return network if method is None else getattr(network, method)


def _channels_last(network: nn.Module) -> nn.Module:
    """The same with copies of the weights of convolutions, which lie otherwise in memory."""
    shared = {id(t): t for t in (*network.parameters(), *network.buffers()) if t.ndim != 4}
    return nn.Module.to(copy.deepcopy(network, shared), memory_format=torch.channels_last)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    from torch._dynamo.exc import TorchDynamoException  # a second of imports

    fast = compiled(function)

    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return fast(*args, **kwargs)
        except TorchDynamoException as error:
            raise refusal("compile must be False", error) from error

    return run


def digit_generator(device: Any = "cpu", *, compile: bool = False) -> DiffusionGenerator:
    """The shipped diffusion model of 8 x 8 digits: z `[1, 8, 8]` -> images in about [-1, 1]; no text.

    Args:
        device, compile: see `DiffusionGenerator`.

    Raises:
        ImportError: without diffusers.

    Example:
        >>> from .digits import digit_classifier
        >>> from .plan import random_anchors
        >>> plan = SlicePlan(random_anchors((1, 8, 8)), [[0.5, 0.5]])
        >>> ready = digit_generator().prepare(plan)
        >>> image, classifier = ready.decode(ready.latents(plan.z(plan.parameters), [0])), digit_classifier()
        >>> bool(classifier.logits(classifier(image)).softmax(dim=1).max() > 0.9)  # it is sure to see a digit
        True
    """
    scheduler = diffusers().DDIMScheduler(**SCHEDULER)
    return DiffusionGenerator(digit_unet(), scheduler, device=device, compile=compile)


def _guided(
    unet: Any, told: list[dict[str, Any]], guidance: float, dtype: torch.dtype
) -> Callable[[Tensor, Tensor], Tensor]:
    """The prediction at x and t; of two texts with classifier-free guidance (Ho and Salimans 2022)."""
    conditions = {key: _joined([each[key] for each in told]) for key in told[0]}

    def predict(x: Tensor, t: Tensor) -> Tensor:
        y = torch.cat([x.to(dtype)] * len(told)) if len(told) > 1 else x.to(dtype)
        output = unet(y, t, return_dict=False, **conditions)[0]
        output = output[:, : x.shape[1]].to(x.dtype)  # models that learn a variance predict it behind the mean
        if len(told) == 1:
            return output
        negative, positive = output.chunk(2)
        return negative + guidance * (positive - negative)

    return predict


def text_identity(pipeline: Any) -> dict[str, Any]:
    """What a pipeline makes of words, beside its networks: its tokenizers' vocabularies, and settings of its own."""
    found = getattr(pipeline, "components", {}).items()
    vocabularies = {
        name: _atomic.json_checksum(part.get_vocab()) for name, part in sorted(found) if hasattr(part, "get_vocab")
    }
    config = {} if pipeline is None else pipeline.config
    settings = {key: value for key, value in config.items() if isinstance(value, bool | int | float | str)}
    settings = {key: value for key, value in settings.items() if key[:1] != "_" and "safety" not in key}
    named = {"vocabularies": vocabularies, "settings": settings}
    return {key: value for key, value in named.items() if value}


def _repeated(told: list[dict[str, Any]], num: int) -> list[dict[str, Any]]:
    """Conditions of one image, for `num` of them."""

    def repeat(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: repeat(inner) for key, inner in value.items()}
        return value.expand(num, *value.shape[1:])

    return [{key: repeat(value) for key, value in each.items()} for each in told]


def _joined(values: list[Any]) -> Any:
    if isinstance(values[0], dict):
        return {key: _joined([value[key] for value in values]) for key in values[0]}
    return torch.cat(values)


def _cast(versions: dict[torch.dtype | None, Any], dtype: torch.dtype) -> Any:
    """The module in that dtype: as it was loaded, or a copy that is kept."""
    if dtype not in versions:
        # By torch's own method: that of diffusers warns of parts that lose digits, also when it has none.
        versions[dtype] = nn.Module.to(copy.deepcopy(next(iter(versions.values()))), dtype)
    return versions[dtype]
