"""Every CUDA C++ kernel once, on few samples, for compute-sanitizer to look at: python -m bench.device.small"""

import numpy as np

from hessfast import ising, tasep


def main() -> None:
    import torch

    for size in (10, 128, 130):
        batch = ising.sample([3.0, 2.5], [0.5, -1.0], size, seed=1, method="cftp", device="cuda")
        ising.sweep(batch, 2.0, 0.1, 2, seed=2).bond_energy()
    for num_sites in (100, 20_000):
        rates = np.array([0.3, 0.9]), np.array([0.4, 1.0])
        chain = tasep.sample(*rates, num_sites, seed=3, device="cuda")
        tasep.evolve(chain, *rates, 0.5, seed=4)
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
