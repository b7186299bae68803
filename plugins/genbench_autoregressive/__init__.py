"""Autoregressive models: each sub-pixel is predicted from those before it, and drawn after them."""

from collections.abc import Callable

from genbench import Model, hookimpl
from genbench_autoregressive.pixelcnn import PixelCNN
from genbench_autoregressive.pixeliqn import PixelIQN
from genbench_autoregressive.sparse_transformer import SparseTransformer


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(PixelCNN)
    register(PixelIQN)
    register(SparseTransformer)
