"""Random numbers for a batch of images, all from one generator."""

import numpy as np
import torch
from torch import Tensor


class Sampler:
    """Per-image random numbers from one generator, on that generator's device.

    The default shape (count, 1, 1, 1) spreads over maps (B, C, H, W).
    """

    def __init__(self, count: int, generator: torch.Generator):
        self.count, self.generator = count, generator

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform in [low, high), (count, *shape), by default (count, 1, 1, 1)."""
        size = (self.count, *(shape or (1, 1, 1)))
        device = self.generator.device
        return low + (high - low) * torch.rand(size, generator=self.generator, device=device)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal, (count, *shape), by default (count, 1, 1, 1)."""
        size = (self.count, *(shape or (1, 1, 1)))
        return torch.randn(size, generator=self.generator, device=self.generator.device)

    def chance(self, probability: float, *shape: int) -> Tensor:
        """True with the given probability, (count, *shape), by default (count, 1, 1, 1)."""
        return self.uniform(0, 1, *shape) < probability

    def integer(self, low: int, high: int) -> int:
        """One number for the whole batch, low <= n < high."""
        device = self.generator.device
        return int(torch.randint(low, high, (1,), generator=self.generator, device=device))

    def choice(self, n: int) -> Tensor:
        """One of 0..n-1 for every image, (count,)."""
        device = self.generator.device
        return torch.randint(n, (self.count,), generator=self.generator, device=device)


def apart(generator: torch.Generator, kind: str) -> torch.Generator:
    """A generator of its own that depends on where another one stands, and leaves it there.

    What samples from it can be added to a world whose photographs are to stay what they were.
    """
    copy = torch.Generator(device=generator.device)
    copy.set_state(generator.get_state())
    number = int(torch.randint(2**31, (1,), generator=copy, device=copy.device))
    return copy.manual_seed(mixed_seed(kind, number, 0))


def mixed_seed(kind: str, seed: int, index: int) -> int:
    """A 32-bit seed for one of many independent generators: of a kind, a run's seed, and a place.

    torch's CPU generator ignores all but the low 32 bits of a seed, so that seeds counted up in the
    high bits would all give the same numbers.
    """
    entropy = [int.from_bytes(kind.encode(), "big"), seed, index]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])
