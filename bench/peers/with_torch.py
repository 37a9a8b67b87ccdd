"""A checkerboard heat bath on a batch of lattices in PyTorch: a convolution, and colours kept apart and rolled.

Both compare uniforms of 24 bits with a sigmoid in float32, so a probability is right to about 1e-7 only.
"""

import numpy as np
import torch

from . import SIDE

torch.set_num_threads(1)


def _column(values):
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)[:, None, None]


class Convolution:
    """As in many tutorials: the sum over neighbours of the whole lattice, kept where the colour is right."""

    dynamics, has_field, sweeps_at_least = "checkerboard heat bath, conv2d", True, 1

    def __init__(self, temperature, field, seed):
        torch.manual_seed(seed)
        self.field, self.twice_beta = _column(field)[:, None], 2 / _column(temperature)[:, None]
        self.state = torch.where(self.field >= 0, 1.0, -1.0).repeat(1, 1, SIDE, SIDE)
        self.cross = torch.tensor([[[[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]]])
        black = (torch.arange(SIDE)[:, None] + torch.arange(SIDE)) % 2 == 0
        self.colours = black, ~black

    @torch.inference_mode()
    def sweeps(self, num_sweeps):
        for _ in range(num_sweeps):
            for colour in self.colours:
                padded = torch.nn.functional.pad(self.state, (1, 1, 1, 1), mode="circular")
                around = torch.nn.functional.conv2d(padded, self.cross)
                up = torch.rand_like(around) < torch.sigmoid((around + self.field) * self.twice_beta)
                self.state = torch.where(colour, torch.where(up, 1.0, -1.0), self.state)
        return self.state.numel() * num_sweeps

    def spins(self):
        return self.state[:, 0].to(torch.int8).numpy()


class Rolled:
    """Black and white in arrays of their own [n, side, side / 2], so that no site is computed in vain; all in place."""

    dynamics, has_field, sweeps_at_least = "checkerboard heat bath, roll", True, 1

    def __init__(self, temperature, field, seed):
        torch.manual_seed(seed)
        self.field, self.twice_beta = _column(field), 2 / _column(temperature)
        self.black = torch.where(self.field >= 0, 1.0, -1.0).repeat(1, SIDE, SIDE // 2)
        self.white, self.uniform = self.black.clone(), torch.empty_like(self.black)

    @torch.inference_mode()
    def sweeps(self, num_sweeps):
        for _ in range(num_sweeps):
            # The second horizontal neighbour of a black site is on the left in even rows, on the right in odd ones.
            for this, other, even_shift in ((self.black, self.white, 1), (self.white, self.black, -1)):
                around = torch.roll(other, 1, 1) + torch.roll(other, -1, 1) + other
                around[:, 0::2] += torch.roll(other[:, 0::2], even_shift, 2)
                around[:, 1::2] += torch.roll(other[:, 1::2], -even_shift, 2)
                probability = around.add_(self.field).mul_(self.twice_beta).sigmoid_()
                this.copy_(self.uniform.uniform_() < probability).mul_(2).sub_(1)
        return 2 * self.black.numel() * num_sweeps

    def spins(self):
        lattice = torch.empty(len(self.black), SIDE, SIDE, dtype=torch.int8)
        lattice[:, 0::2, 0::2], lattice[:, 1::2, 1::2] = self.black[:, 0::2].char(), self.black[:, 1::2].char()
        lattice[:, 0::2, 1::2], lattice[:, 1::2, 0::2] = self.white[:, 0::2].char(), self.white[:, 1::2].char()
        return lattice.numpy()
