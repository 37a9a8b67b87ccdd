"""Latent slices of diffusion models: points between noises, the images they become, and how reliably.

    plan = SlicePlan(random_anchors((1, 8, 8)), Grid((0, 0), (1, 1), (64, 64)))
    model = digit_generator()
    store = generate(plan, model, "slice", features="digits")        # resumable; also under torchrun
    lipschitz(plan, model, "digits").constant                        # exact, by forward mode through the loop
    noise_floor(plan, model, "digits").flip                          # where rounding decides

`digit_generator()` is a shipped diffusion model of 8 x 8 digits; `from_pretrained` loads diffusers' from a folder.
`SliceProject` does all of it in one folder, up to the report, as ``hessfast slice`` does.
"""

from ._windows import steepest
from .adaptive import AdaptiveSlice, adaptive, replayed
from .box_counting import BoxDimension, boundary, box_counting
from .diffusion import DiffusionGenerator, digit_generator
from .digits import DigitClassifier, digit_classifier, digit_unet
from .features import Features, clip_features, clip_input, feature_map
from .fit import Geometry, fit
from .forecast import Forecast, forecast
from .generate import generate, shard_job
from .generators import Generator, Prepared, from_callable
from .lipschitz import Lipschitz, lipschitz
from .loops import Schedule, ddim
from .noise import NoiseFloor, noise_floor
from .paths import compare
from .pipelines import PipelineGenerator, from_pipeline, from_pretrained
from .plan import SlicePlan, random_anchors
from .project import SliceProject
from .report import write_report
from .zoom import Level, Zoom, zoom

__all__ = [
    "AdaptiveSlice",
    "BoxDimension",
    "DiffusionGenerator",
    "DigitClassifier",
    "Features",
    "Forecast",
    "Generator",
    "Geometry",
    "Level",
    "Lipschitz",
    "NoiseFloor",
    "PipelineGenerator",
    "Prepared",
    "Schedule",
    "SlicePlan",
    "SliceProject",
    "Zoom",
    "adaptive",
    "boundary",
    "box_counting",
    "clip_features",
    "clip_input",
    "compare",
    "ddim",
    "digit_classifier",
    "digit_generator",
    "digit_unet",
    "feature_map",
    "fit",
    "forecast",
    "from_callable",
    "from_pipeline",
    "from_pretrained",
    "generate",
    "lipschitz",
    "noise_floor",
    "random_anchors",
    "replayed",
    "shard_job",
    "steepest",
    "write_report",
    "zoom",
]
