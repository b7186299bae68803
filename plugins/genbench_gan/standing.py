"""Statistics of batch normalisation that belong to the weights as they are (Brock et al. 2019, appendix B)."""

from collections.abc import Callable

from torch import nn

BATCHES = 100


def standing_statistics(network: nn.Module, run: Callable[[], object]) -> None:
    """Set all running statistics to their means over BATCHES calls of `run`, which passes a batch through `network`.

    Without batch normalisation there is nothing to set, and nothing is run.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    if not layers:
        return
    momenta, training = [layer.momentum for layer in layers], network.training
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a mean of all batches, not one that forgets
    network.train()
    for _ in range(BATCHES):
        run()
    network.train(training)
    for layer, momentum in zip(layers, momenta):
        layer.momentum = momentum
