"""The sweep of Fisher curves through a U-Net, against the forward and the backward pass that it cannot do without."""

import time
from collections.abc import Iterator

from hessfast.diffusability import fisher_curve, from_edm_raw
from hessfast.diffusability.networks import UNet

from .measure import Row, rate


def sweep() -> Iterator[Row]:
    """512 images of 64 x 64 x 3 at one tau, one probe; float32 without TF32, random weights."""
    import torch

    torch.manual_seed(0)
    network = UNet(3, width=128, levels=4).cuda().eval()
    for weight in network.parameters():
        weight.requires_grad_(False)
    model = from_edm_raw(network, 0.5)
    images, batch = torch.randn((512, 3, 64, 64), device="cuda"), 64

    def bare() -> None:
        for x in images.split(batch):
            y = x.clone().requires_grad_()
            torch.autograd.grad(model.predict(y, 1.0), y, torch.ones_like(y))

    def one_by_one(num: int = 32) -> None:
        for x in images[:num].split(1):
            y = x.clone().requires_grad_()
            torch.autograd.grad(model.predict(y, 1.0), y, torch.ones_like(y))

    def curve() -> None:
        fisher_curve(model, images, 1.0, batch_size=batch)

    bare()
    curve()
    ratios = []
    for _ in range(3):
        seconds = []
        for call in (bare, curve):
            torch.cuda.synchronize()
            start = time.perf_counter()
            call()
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[1] / seconds[0])
    more = {"over_forward_and_backward": sorted(ratios)[1], "seconds": 4.0, "rounds": 3}
    yield rate("fisher_curve: U-Net on 64 x 64 x 3, one probe", curve, len(images), "samples/s", **more)
    yield rate("fisher_curve: one sample at a time", one_by_one, 32, "samples/s", seconds=4.0, rounds=3)
