"""How a network's weights are moved: the options that models share, and the phase that follows from them."""

from collections.abc import Iterable, Sequence
from typing import Literal

from torch import nn
from torch.optim import AdamW

from genbench.embeddings import LabelEmbedding, TimeEmbedding
from genbench.model import Config, Phase, field
from genbench.nets import ResBlock
from genbench.optimizers import Betas, Muon, adamw
from genbench.schedules import annealed


def steering(network: nn.Module) -> list[nn.Parameter]:
    """The weights that embed times and labels and those with which residual blocks read them: no image passes these."""
    embedders = [m for m in network.modules() if isinstance(m, TimeEmbedding | LabelEmbedding)]
    readers = [m.embed for m in network.modules() if isinstance(m, ResBlock) and m.embed is not None]
    return [p for module in (*embedders, *readers) for p in module.parameters()]


class OptimizerConfig(Config):
    """The settings of the optimizer and of its learning rate, for a model's own settings to extend."""

    optimizer: Literal["adamw", "muon"] = field(
        "muon",
        "train",
        "AdamW for all weights, or Muon for matrices that images and words pass through, convolutions too",
    )
    learning_rate: float = field(2e-3, "train", "peak learning rate of AdamW", gt=0)
    matrix_learning_rate: float = field(
        0.01, "train", "peak learning rate of Muon", gt=0, only_with={"optimizer": ["muon"]}
    )
    annealing: Literal["cosine", "constant"] = field(
        "cosine", "train", "the learning rate after its warm-up: half a cosine down, or constant, as published"
    )
    warmup: int = field(
        0, "train", "steps over which the network's learning rate rises; 0: the first 2 % of its budget", ge=0
    )
    betas: Betas = field((0.9, 0.99), "train", "AdamW's decay rates")
    weight_decay: float = field(0.0, "train", "weight decay, decoupled from the gradient", ge=0)

    def phase(
        self,
        name: str,
        module: nn.Module,
        rate: float,
        span: tuple[float, float] = (0.0, 1.0),
        warmup: int = 0,
        others: Iterable[nn.Parameter] = (),
        undecayed: Sequence[nn.Parameter] = (),
    ) -> Phase:
        """The phase that trains `module` with the optimizer these settings describe.

        Muon leaves `others` to AdamW. The weights `undecayed`, which AdamW moves, do not decay.
        """
        free = {id(p) for p in undecayed}
        weights = [p for p in module.parameters() if id(p) not in free]
        if self.optimizer == "muon":
            apart = [*steering(module), *others]
            optimizer: AdamW = Muon(
                weights, rate, self.matrix_learning_rate, self.betas, self.weight_decay, others=apart
            )
        else:
            optimizer = adamw(weights, rate, self.betas, self.weight_decay)
        if undecayed:
            optimizer.add_param_group({"params": undecayed, "lr": rate, "weight_decay": 0.0})
        schedule = annealed(self.annealing, warmup)
        return Phase(name, module, optimizer, span=span, schedule=schedule, clip=1.0, warmup=warmup)
