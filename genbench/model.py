"""The interface for plugin authors: `Model`, and the types that its methods use."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from genbench.condition import KINDS, Condition, ConditionSpec, Given, Kind, kind_of
from genbench.images import dequantize, to_float
from genbench.support.parts import Part

Role = Literal["train", "sample", "runtime"]


@dataclass(frozen=True)
class DataSpec:
    """The images a model is built for: `shape` is (C, H, W); `num_classes` is 0 unless the job conditions on the class.

    `condition` describes any other kind of condition of the job, else None.
    """

    name: str
    shape: tuple[int, int, int]
    num_classes: int = 0
    condition: ConditionSpec | None = None

    @property
    def kind(self) -> Kind | None:
        """The kind of condition of the job, or None."""
        return kind_of(self.num_classes, self.condition)

    @property
    def shown(self) -> int:
        """The channels of `Condition.maps`, 0 if the condition, if there is any, shows no images."""
        return self.condition.channels(self.shape[0]) if self.condition else 0

    @property
    def dims(self) -> int:
        """C * H * W, the D of bits/dim."""
        c, h, w = self.shape
        return c * h * w


@dataclass(frozen=True)
class Batch:
    """Training images, float32 (B, C, H, W), and what they are conditioned on.

    The images are dequantised in [-1, 1), or bin centres for a model with `discrete = True`. `labels` are the classes,
    int64 (B,), if the job conditions on them; `condition` is for jobs of another kind. `progress` is the share of the
    phase's span that is over, in [0, 1): a loss that warms up a term by it resumes exactly, unlike one that counts in a
    Python attribute. It is the same for all micro-batches, repeats and processes of a step, and 0 outside `Model.loss`.
    """

    images: Tensor
    labels: Tensor | None = None
    condition: Condition | None = None
    progress: float = 0.0

    @classmethod
    def of(cls, images: Tensor, given: Given) -> Self:
        """The batch of images and their labels or condition, if any."""
        return cls(images, condition=given) if isinstance(given, Condition) else cls(images, given)

    @classmethod
    def of_levels(cls, levels: Tensor, given: Given, discrete: bool, seed: int) -> Self:
        """The batch of uint8 levels (B, C, H, W), on their device; `seed` seeds the dequantisation noise."""
        if discrete:
            return cls.of(to_float(levels), given)
        return cls.of(dequantize(levels, torch.Generator(levels.device).manual_seed(seed)), given)

    @property
    def given(self) -> Given:
        """What a model gets besides the images: labels, a condition of another kind, or None."""
        return self.labels if self.condition is None else self.condition

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, part: slice) -> Self:
        given = self.given
        return replace(self.of(self.images[part], None if given is None else given[part]), progress=self.progress)


@dataclass
class Phase:
    """One optimizer and the module it moves, over `span` of the budget, with `repeats` updates each `every`-th step.

    An update takes `batch_size` images, or with 0 as many as the model's option of that name says.

    `schedule` maps the progress within the span, in [0, 1], to a factor of the optimizer's learning rate; it keeps no
    state. Over the first `warmup` steps the rate also rises linearly, whatever the budget. `clip` bounds the gradient's
    norm. Only `module` gets gradients while the phase's loss is computed.

    An `auxiliary` phase trains what only training needs, such as the critic of a first stage: points of a learning
    curve are scored before it has begun.

    A phase with `every = n` takes part in steps 0, n, 2n, ... of the loop. Phases may share one optimizer object: they
    move the same parameters with different losses, each at its own cost in FLOPs, and the parameters are averaged once
    per step. Together the two make lazy regularisation (Karras et al. 2020, "Analyzing and improving the image quality
    of StyleGAN", appendix B): an expensive penalty only in every 16th step, its weight times 16. Since the optimizer
    then takes 17 updates in 16 steps, its learning rate and betas change by c = 16/17::

        c = every / (every + 1)
        optimizer = torch.optim.Adam(self.critic.parameters(), lr=c * 2e-3, betas=(0.0**c, 0.99**c))
        return [
            Phase("generator", self.generator, generator_optimizer),
            Phase("critic", self.critic, optimizer),
            Phase("penalty", self.critic, optimizer, every=every),
        ]

    and `loss("penalty", batch)` returns `every * gamma / 2 * penalty`.

    `part` says what its cost is booked as: that of the generator, of a classifier that guides it, or of a first stage
    that it needs, which publications often leave out. Training is the same whatever it is.
    """

    name: str
    module: nn.Module
    optimizer: torch.optim.Optimizer
    repeats: int = 1
    span: tuple[float, float] = (0.0, 1.0)
    schedule: Callable[[float], float] | None = None
    clip: float | None = None
    warmup: int = 0
    every: int = 1
    part: Part = "generator"
    auxiliary: bool = False
    batch_size: int = 0

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer moves."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def within(self, progress: float) -> float:
        """The share of the span, in [0, 1), that is over at budget share `progress`, which lies within the span."""
        begin, end = self.span
        return min((progress - begin) / (end - begin), math.nextafter(1.0, 0.0))

    def factor(self, progress: float, steps: int) -> float:
        """The learning-rate factor at this progress within the span, after `steps` steps."""
        scheduled = self.schedule(progress) if self.schedule else 1.0
        return scheduled * min((steps + 1) / self.warmup, 1.0) if self.warmup else scheduled


def field(
    default: Any,
    role: Role,
    doc: str,
    *,
    only_with: Mapping[str, Sequence[Any]] | None = None,
    only_given: Sequence[Kind] = (),
    **bounds: Any,
) -> Any:
    """A configuration field: `role` says what changing it invalidates (the training, the samples, or nothing).

    `only_with` gives, by other fields, the values under which this one has an effect, `only_given` the kinds of
    condition under which it has: who sets it otherwise is told.
    """
    needs: dict[str, Any] = {key: list(values) for key, values in (only_with or {}).items()}
    words = " and ".join(f"{key} {' or '.join(map(str, values))}" for key, values in needs.items())
    about = f"{doc}; only with {words}" if needs else doc
    if only_given:
        about += f"; only given {'a condition' if set(only_given) == set(KINDS) else ' or '.join(only_given)}"
    extra: dict[str, Any] = {"role": role, "only_with": needs, "only_given": list(only_given)}
    return Field(default, description=about, json_schema_extra=extra, **bounds)


class Model(nn.Module):
    """A generative model of images: subclass it, give it a `name`, a `loss` and a `sample`, and register it.

    The harness owns the loop, the clock, seeds, EMA, checkpoints, devices and disk. A model draws from torch's global
    generator, which the harness seeds before every call, and never re-seeds it. A model that also has `log_prob` (see
    `genbench.Likelihood`) gets bits/dim. A model that can be scored without samples (`genbench.capabilities`)
    needs no `sample`.
    """

    class Config(BaseModel):
        """The settings of every model; a model adds more by subclassing. Unknown keys are errors."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        batch_size: int = field(64, "train", "images per update", ge=1)
        learning_rate: float = field(1e-3, "train", "peak learning rate", gt=0)
        ema_decay: float = field(
            0.999, "train", "decay of the weight average, warmed up as min(decay, (1+t)/(10+t))", ge=0, lt=1
        )
        micro_batch: int = field(
            0, "train", "images per gradient computation, averaged over the batch; 0 for the whole batch", ge=0
        )
        flip: bool = field(False, "train", "mirror training images left to right, each with probability 1/2")

        @model_validator(mode="after")
        def micro_batch_divides_the_batch(self) -> Self:
            if self.micro_batch and self.batch_size % self.micro_batch:
                raise ValueError(f"micro_batch: {self.micro_batch} does not divide batch_size, {self.batch_size}")
            return self

        @property
        def pieces(self) -> tuple[int, int]:
            """Images per micro-batch, and micro-batches per update, of a model whose `batch_size` is not 0."""
            return self.pieces_of(self.batch_size)

        def images_per_update(self, shape: tuple[int, int, int]) -> int:
            """The batch of phases that name none, on images (C, H, W) of this shape."""
            return self.batch_size

        def pieces_of(self, images: int) -> tuple[int, int]:
            """Images per micro-batch, and micro-batches, of a phase's update on so many images."""
            size = min(self.micro_batch or images, images)
            return size, images // size

        @classmethod
        def role(cls, name: str) -> Role:
            """Whether the field changes the training, only the samples, or neither."""
            role: Role | None = cls.declared(name, "role")
            if role is None:
                raise TypeError(f"{cls.__qualname__}.{name}: declare it with genbench.field(default, role, doc)")
            return role

        @classmethod
        def declared(cls, name: str, what: Literal["role", "only_with", "only_given"]) -> Any:
            """What `genbench.field` was told of a field; None of one that was declared without it."""
            extra = cls.model_fields[name].json_schema_extra
            return extra.get(what) if isinstance(extra, dict) else None

        def unused(self, name: str) -> str:
            """The settings under which the field has no effect, such as `sampler = ancestral`; "" if it has one."""
            needs: dict[str, list[Any]] = self.declared(name, "only_with") or {}
            return ", ".join(
                f"{key} = {getattr(self, key)}" for key, values in needs.items() if getattr(self, key) not in values
            )

        def check(self, data: DataSpec) -> None:
            """Raise ValueError, naming the option, if these settings do not suit the images or the condition.

            Called first when a model is built; planning builds every model before anything runs.
            """

        def of_role(self, role: Role) -> dict[str, Any]:
            """The fields of one role, by name, as plain data."""
            return {k: v for k, v in self.model_dump(mode="json").items() if self.role(k) == role}

    name: ClassVar[str]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    conditions: ClassVar[tuple[Kind, ...]] = ()
    """The kinds of condition that the model supports; the job decides which it gets, if any."""
    conditional: ClassVar[bool] = False
    """Whether the model can be conditioned on the class: the same as listing "class" in `conditions`."""
    discrete: ClassVar[bool] = False
    """Whether `log_prob` is that of the 256 levels (its input then is bin centres), not a density on [-1, 1)."""
    likelihood: ClassVar[Literal["exact", "bound", "estimate"]] = "exact"
    """Whether `log_prob` is exact, a lower bound, or an estimate that may err in either direction.

    If an option decides it, the class has the default and `__init__` sets it on the instance, which takes precedence.
    """
    bf16: ClassVar[bool] = True
    """Whether training and sampling may run under bfloat16 autocast."""
    external_data: ClassVar[tuple[str, ...]] = ()
    """Pretrained or foreign parts, by name."""
    seen_extractors: ClassVar[tuple[str, ...]] = ()
    """Extractors whose networks training has seen, as in a perceptual loss: nothing is measured in their features."""
    _memories: tuple[str, ...] = ()

    def __init__(self, data: DataSpec, config: Config) -> None:
        super().__init__()
        config.check(data)
        self.data = data
        self.config = config

    @classmethod
    def kinds(cls) -> tuple[Kind, ...]:
        """The supported kinds of condition, declared by either attribute."""
        return tuple(dict.fromkeys((*(("class",) if cls.conditional else ()), *cls.conditions)))

    @property
    def nfe(self) -> int:
        """Network evaluations per sample; a gradient with respect to the input counts as two."""
        return 1

    @property
    def eager(self) -> tuple[nn.Module, ...]:
        """Networks that `--compile` leaves alone: one whose gradient is differentiated again cannot be compiled."""
        return ()

    @property
    def likelihood_note(self) -> str:
        """How `log_prob` is computed, in a few words printed beside the number."""
        return ""

    @property
    def remark(self) -> str:
        """What a reader of its numbers must know, such as that it was not trained for the task; printed with them."""
        return ""

    def register_memory(self, name: str, tensor: Tensor) -> None:
        """Keep a tensor that belongs to training, such as a replay buffer, as the attribute `name`.

        `loss` and `prepare` may read it, change it in place or reassign the attribute; it moves to the device with the
        model. It is stored in checkpoints, so that resumed training continues exactly. It is not part of the weights:
        it is not averaged, and has 0 rows when the model samples; state for sampling belongs in `register_buffer`. A
        model with a memory cannot use micro-batches or several processes, which would lose its changes.
        """
        self.register_buffer(name, tensor, persistent=False)
        self._memories = (*self._memories, name)

    def phases(self) -> list[Phase]:
        """The phases, in their order within a step. The default is one AdamW over all parameters, decayed to zero."""
        from genbench.optimizers import adamw
        from genbench.schedules import warmup_cosine

        return [Phase("train", self, adamw(self, self.config.learning_rate), schedule=warmup_cosine)]

    def prepare(self, phase: str, batch: Batch) -> None:
        """Set what depends on data (activation normalisation, a latent scale) when a phase starts; no gradients."""

    def settle(self, batch: Batch) -> None:
        """Set what depends on the final weights (standing statistics, a calibration); no gradients.

        Called once, when training ends, on the averaged weights in evaluation mode, which it may change. As in
        `prepare`, `batch` has the first training images, torch's generator is seeded, the clock is stopped, and only
        the first of several processes calls it. Points of a curve are copies, settled in the same way.
        """

    def loss(self, phase: str, batch: Batch) -> Tensor | dict[str, Tensor]:
        """The scalar to minimise in `phase`, or a dict whose `loss` is minimised and whose other values are logged."""
        raise TypeError(f"{type(self).__qualname__} has no loss()")

    def report(self, share: float) -> None:
        """Report the progress of the current call of `sample`, in [0, 1], if it takes long; has no other effect."""
        from genbench.support.progress import report_within

        report_within(share)

    def sample(self, n: int, given: Given = None) -> Tensor:
        """`n` images, float (n, C, H, W) in [-1, 1].

        `given`, passed by position, has one condition per image: labels, int64 (n,), if the job conditions on the
        class, a `Condition` of length n for another kind, and None if it is unconditional.
        """
        raise TypeError(f"{type(self).__qualname__} has no sample()")


Config = Model.Config
