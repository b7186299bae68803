"""The U-Nets' attention on a GPU, with and without the copy that its fused kernels need.

    python benchmarks/attention.py

Forward and backward in bfloat16, at the sizes of the published networks, alternating in one process: the
median time and the peak memory.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from unittest.mock import patch

import torch
from torch import Tensor

from genbench import nets
from genbench.devices import exact_arithmetic, peak_memory, reset_peak_memory, synchronize

SIZES = {"LDM-4, 32x32": (48, 448, 32, 14), "LDM-4, 16x16": (48, 672, 16, 21), "DDPM, 16x16": (128, 256, 16, 1)}
"""Images, channels, side and heads."""
SIDES: dict[str, Callable[[Tensor], Tensor]] = {"with the copy": nets.for_attention, "without": lambda heads: heads}
REPEATS = 20


def measured(attention: nets.Attention, x: Tensor, side: str) -> tuple[float, int]:
    """Seconds of one forward and backward pass, and its peak memory in bytes."""
    reset_peak_memory(x.device)
    began = time.perf_counter()
    with patch.object(nets, "for_attention", SIDES[side]), torch.autocast(x.device.type, torch.bfloat16):
        attention(x).sum().backward()
    synchronize(x.device)
    return time.perf_counter() - began, peak_memory(x.device)[0]


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("attention.py: there is no GPU here")
    exact_arithmetic()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {REPEATS} passes a side")
    for name, (batch, channels, edge, heads) in SIZES.items():
        attention = nets.Attention(channels, heads).cuda()
        x = torch.randn(batch, channels, edge, edge, device="cuda", requires_grad=True)
        found = [{side: measured(attention, x, side) for side in SIDES} for _ in range(REPEATS + 1)][1:]
        for side in SIDES:
            milliseconds = 1000 * statistics.median(turn[side][0] for turn in found)
            gigabytes = max(turn[side][1] for turn in found) / 2**30
            print(f"{name:14} {side:14} {milliseconds:8.2f} ms {gigabytes:8.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
