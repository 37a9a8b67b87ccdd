"""SplitMix64 keys and sfc64 streams on Python integers: the definition that the compiled forms are tested against."""

from . import GOLDEN, WARM_UP

_MASK = (1 << 64) - 1


def mix64(x: int) -> int:
    """The finaliser of SplitMix64 (variant 13 of Stafford's mixers)."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def derive(key: int, index: int) -> int:
    """The child of `key` with number `index`: output `index` of SplitMix64 started at `key`."""
    return mix64((key + GOLDEN * (index + 1)) & _MASK)


class Sfc64:
    """One sfc64 stream; its words are those of ``numpy.random.SFC64`` in the same state."""

    def __init__(self, key: int, stream: int):
        self.a, self.b, self.c = (derive(key, 3 * stream + j) for j in range(3))
        self.counter = 1
        for _ in range(WARM_UP):
            self.next()

    def next(self) -> int:
        out = (self.a + self.b + self.counter) & _MASK
        self.counter += 1
        self.a = self.b ^ (self.b >> 11)
        self.b = (self.c + (self.c << 3)) & _MASK
        self.c = (((self.c << 24) | (self.c >> 40)) + out) & _MASK
        return out
