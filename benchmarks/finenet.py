"""FineNet as drawn (450-channel hypercolumn) against folded: medians as JSON on standard output.

python benchmarks/finenet.py --repeats 5 --threads 2
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from statistics import median

import torch

from facerecon.finenet import FineNet

CROP, CROPS = 128, 4


def inputs(batch: int, size: int) -> tuple[torch.Tensor, ...]:
    """Noise and a mask that is everywhere: the cost does not depend on the content."""
    image = torch.rand(batch, 1, size, size)
    return image, 20 * image, torch.ones_like(image, dtype=torch.bool), torch.ones(batch)


def compare(network: FineNet, run: Callable[[], object], repeats: int) -> dict[str, float]:
    """Median times in ms of a call both ways, after one of each that is not counted."""
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(repeats + 1):
        # In turns: whatever else the machine does falls on both.
        for folded, measured in times.items():
            network.folded = folded
            start = time.perf_counter()
            run()
            measured.append(1000 * (time.perf_counter() - start))
    as_drawn, folded = (round(median(measured[1:]), 1) for measured in times.values())
    return {"as_drawn": as_drawn, "folded": folded}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 400])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    network = FineNet()
    optimizer = torch.optim.Adam(network.parameters())

    def infer() -> None:
        with torch.inference_mode():
            network(*batch)

    def train() -> None:
        image, depth, mask, mm_per_pixel = inputs(CROPS, CROP)
        optimizer.zero_grad()
        (network(image, depth, mask, mm_per_pixel) - depth + 1).square().mean().backward()
        optimizer.step()

    times = {}
    for size in arguments.sizes:
        batch = inputs(1, size)
        times[f"inference_{size}"] = compare(network, infer, arguments.repeats)
    times[f"training_step_{CROPS}x{CROP}"] = compare(network, train, arguments.repeats)
    result = {
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
        "threads": arguments.threads,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "median_ms": times,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
