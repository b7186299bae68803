"""Plugins as text, for tests that write one to a file and run it in processes of their own."""

HEAD = """
import ctypes, os, signal, sys, time
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, Dataset
from genbench import Model, field, hookimpl

class Mean(Model):
    def __init__(self, data, config):
        super().__init__(data, config)
        self.mean = nn.Parameter(torch.zeros(data.shape))
    def loss(self, phase, batch):
        return (batch.images - self.mean).square().mean()
    def sample(self, n, labels=None):
        return self.mean.expand(n, *self.data.shape)
"""
TAIL = """
@hookimpl
def register_models(register):
    for kind in list(globals().values()):
        if isinstance(kind, type) and issubclass(kind, Model) and "name" in vars(kind):
            register(kind)
"""


def plugin_source(models: str) -> str:
    """A plugin with these models, which may derive from `Mean`; those that set a name are registered."""
    return HEAD + models + TAIL
