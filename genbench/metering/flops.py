"""FLOPs of what runs inside a block, counted at torch's dispatcher: 2 per multiply-add, forward and backward.

torch's own counter mode hooks modules and fails on gradient penalties; a plain dispatch mode over the same table of
formulas (`torch.utils.flop_counter.flop_registry`) does not.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

_ATTENTION = "_scaled_dot_product_"
"""Fused kernels of attention, forward and backward: the count must not depend on which one a device uses."""
_VECTOR = {"dot": 0, "vdot": 0, "mv": 0, "addmv": 1}
"""Products with a vector, for which torch has no formulas: the argument whose every element is multiplied once."""
_UNCOUNTED = (
    "ger", "addr", "addbmm", "_trilinear", "_sparse_mm", "_cdist", "_pdist",
    "_euclidean_dist", "fft_", "_fft", "inverse", "cholesky", "triangular_solve", "linalg_inv", "linalg_solve",
    "linalg_lu", "linalg_qr", "linalg_svd", "linalg_eig", "linalg_chol", "_linalg", "lstm", "gru", "rnn",
    "mkldnn_rnn", "_cudnn_rnn", "miopen_rnn", "_thnn_fused", "_transformer_encoder", "_native_multi_head",
)  # fmt: skip


@cache
def _is_composite(func: Any) -> bool:
    """Whether an operator is composed of others; those outside aten (prim::device of a meta tensor) are not."""
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    return func.namespace == "aten" and (key in func.py_kernels or func.has_kernel_for_dispatch_key(key))


class FlopCounter(TorchDispatchMode):
    """`with FlopCounter() as counter: ...`, then `counter.flops` and the names in `counter.uncounted`."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.uncounted: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        if packet not in flop_registry and _is_composite(func):
            # Under inference_mode a composite operator arrives whole; only its parts can be counted.
            with self:
                return func.decompose(*args, **kwargs)
        result = func(*args, **kwargs)
        if packet.__name__.startswith(_ATTENTION):
            # Backward is four products, for the gradients of scores, q, k and v; recomputed scores do not count.
            backward = packet.__name__.endswith("_backward")
            q, k, v = args[1:4] if backward else args[:3]
            self.flops += sdpa_flop_count(q.shape, k.shape, v.shape) * (2 if backward else 1)
        elif packet in flop_registry:
            self.flops += flop_registry[packet](*args, **kwargs, out_val=result)
        elif (name := packet.__name__.removesuffix("_")) in _VECTOR:
            self.flops += 2 * args[_VECTOR[name]].numel()
        elif packet.__name__.startswith(_UNCOUNTED):
            self.uncounted.add(packet.__name__)
        return result
