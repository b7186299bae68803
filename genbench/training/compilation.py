"""Compiled networks: `--compile`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

from genbench.model import Model


def networks(model: Model) -> list[nn.Module]:
    """The modules to compile: the outermost ones within the model that have a forward and parameters.

    Containers without a forward, such as ModuleList, are searched, as is the model; `model.eager` is left out.
    """
    found: list[nn.Module] = []

    def look_into(parent: nn.Module) -> None:
        for module in parent.children():
            if any(module is one for one in model.eager) or not any(True for _ in module.parameters()):
                continue
            if type(module).forward is nn.Module.forward:
                look_into(module)
            else:
                found.append(module)

    look_into(model)
    return found


@contextmanager
def compiled(model: Model, wanted: bool) -> Iterator[None]:
    """Within the block, the model's networks run as compiled code; their parameters keep their names.

    Code is compiled for each size: dynamic shapes do not compile for every network. Compilation uses one process, so
    that a job takes no more cores than it was given.
    """
    if not wanted:
        yield
        return
    import torch._inductor.config

    found = networks(model)
    with torch._inductor.config.patch(compile_threads=1):
        for module in found:
            module.compile(dynamic=False)
        try:
            yield
        finally:
            for module in found:
                module._compiled_call_impl = None


def uncompiled(model: Model) -> AbstractContextManager[object]:
    """Within the block, compiled networks run eagerly."""
    compiled_here = any(module._compiled_call_impl is not None for module in model.modules())
    return torch.compiler.set_stance("force_eager") if compiled_here else nullcontext()
