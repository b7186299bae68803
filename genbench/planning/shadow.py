"""Models without values: built on torch's meta device, then given shadow tensors of only shape, dtype and device.

Such a model takes no memory and no time to initialise, so errors in building it are caught, and the cost of a job is
counted, before anything runs. The tensors come from `torch._subclasses.FakeTensorMode`, which torch itself uses for
tracing; operations choose the kernels (attention, autocast) that they would choose on the device.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import NoneType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from genbench.evaluate.extractors import check_unseen
from genbench.metering.flops import FlopCounter
from genbench.model import DataSpec, Model
from genbench.support.errors import BadInput, EnvironmentProblem, GenbenchError, describe, message_of
from genbench.support.signals import is_interruption
from genbench.training.memory import memories
from genbench.training.phases import checked_phases

if TYPE_CHECKING:
    from torch._subclasses.fake_tensor import FakeTensorMode

    from genbench.data.dataset import Dataset
    from genbench.extension.registry import Plugins
    from genbench.records.job import Job

SMALL = 2**18
"""Parameters with fewer elements keep their values during building: they are cheap, and building may read them."""

PLAIN = (Tensor, bool, int, float, complex, str, torch.dtype, torch.device, torch.Size, NoneType)
"""What arguments are remembered by: values that stay as they are, and tensors by their shapes."""

MOST_OPERATIONS = 60_000
"""Of torch on shadow tensors that are counted for one block of samples or one likelihood: some seconds."""
MOST_QUESTIONS = 100
"""Of whether a shadow is true, in one update."""
TOO_MANY = f"more than {MOST_OPERATIONS:,} operations, which are not counted"


def check_models(jobs: Iterable[Job], plugins: Plugins, datasets: dict[str, Dataset]) -> None:
    """Build every model of a plan once. Raises BadInput naming one that its options or images do not allow."""
    seen = []
    for job in jobs:
        what = (job.model, job.config, job.dataset, job.kind)
        if not job.is_reference and what not in seen:
            seen.append(what)
            model = build_job(job, plugins, datasets[job.dataset])
            batches = _batch_sizes(model)
            _check_memory(job, model, batches)
            _check_pieces(job, model.config, batches)
            check_unseen(f"model {job.label!r}", model.seen_extractors, job.evaluation.extractors)
            if next(model.parameters(), None) is None and not plugins.owns("train", plugins.model(job.model)[1]):
                raise BadInput(f"model {job.label!r} has no parameters to train", "make them torch.nn.Parameters")


def _batch_sizes(model: Model) -> list[int]:
    """Images per update of each phase, smallest first; of a model whose phases fail, which training will tell, its own.

    Raises BadInput for phases that are not sound.
    """
    try:
        return sorted({phase.batch_size for phase in checked_phases(model)})
    except BadInput:
        raise
    except Exception:
        return [model.config.images_per_update(model.data.shape)]


def _check_memory(job: Job, model: Model, batches: Iterable[int]) -> None:
    """Refuse to split the batch of a model with a memory: only changes from the first micro-batch would be kept."""
    kept = memories(model)
    if not kept or max(model.config.pieces_of(images)[1] for images in batches) == job.runtime.processes == 1:
        return
    told = f"model {job.label!r} keeps a memory ({', '.join(kept)}) that training changes"
    if job.runtime.processes > 1:
        raise BadInput(
            f"--processes {job.runtime.processes}: {told}, which processes cannot share", "use --processes 1"
        )
    option = f"{job.label}.micro_batch"
    raise BadInput(
        f"{option}={model.config.micro_batch}: {told}, which rules out micro-batches", f"use --set {option}=0"
    )


def _check_pieces(job: Job, config: Model.Config, batches: Iterable[int]) -> None:
    """Refuse batches of which the processes of a job cannot share one evenly."""
    processes, common = job.runtime.processes, math.gcd(*batches)
    for images in batches:
        size, count = config.pieces_of(images)
        if count % processes == 0:
            continue
        parts = "one micro-batch" if count == 1 else f"{count} micro-batches of {size}"
        what = f"a batch of {images} in {parts} cannot be split evenly across {processes} processes"
        if common % processes == 0:
            hint = f"give each process one micro-batch: --set {job.label}.micro_batch={common // processes}"
        else:
            hint = f"set a batch_size divisible by {processes}, and a micro_batch that divides it evenly"
        raise BadInput(f"model {job.label!r}: {what}", hint)


def build_job(job: Job, plugins: Plugins, data: Dataset) -> Model:
    """The job's model, without the values of large parameters. Raises BadInput, or the model's EnvironmentProblem."""
    kind, _ = plugins.model(job.model)
    spec = data.spec(job.kind)
    try:
        return build(kind, spec, kind.Config(**job.config))
    except EnvironmentProblem:
        raise
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        if is_interruption(error):
            raise
        what = message_of(error) if isinstance(error, GenbenchError | ValueError) else describe(error)
        shape = "x".join(map(str, spec.shape))
        raise BadInput(
            f"model {job.label!r} cannot be built for the {shape} images of {spec.name!r}: {what}",
            "change its options with --set, or choose another dataset; `genbench check-plugin` names the line",
        ) from error


def build(kind: type[Model], spec: DataSpec, config: Model.Config) -> Model:
    """The model with its large parameters on the meta device; raises whatever building it raises.

    A model whose constructor combines such parameters with other tensors is built with all its values.
    """
    try:
        with _parameters_on_meta():
            return kind(spec, config)
    except Exception:
        return kind(spec, config)


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Within the block, modules register large parameters on the meta device; shared ones stay shared."""
    replaced: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}

    def replace(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or parameter.is_meta or parameter.numel() < SMALL:
            return None
        if id(parameter) not in replaced:
            replaced[id(parameter)] = parameter, nn.Parameter(parameter.to("meta"), parameter.requires_grad)
        return replaced[id(parameter)][1]

    handle = register_module_parameter_registration_hook(replace)  # type: ignore[arg-type]
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def shadow_mode() -> Iterator[FakeTensorMode]:
    """Within `with shadow_mode():` all new tensors are shadows; what needs values raises, and torch is quiet."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    logger = logging.getLogger(FakeTensorMode.__module__)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            yield mode
    finally:
        logger.setLevel(level)


class Limited(FlopCounter):  # type: ignore[no-untyped-call]
    """A counter whose `expect` raises OverflowError as soon as more than `MOST_OPERATIONS` are to be expected."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        with torch._C.DisableTorchFunction():
            return super().__torch_dispatch__(func, types, args, kwargs)

    def expect(self, share: float) -> None:
        """Take it that a share of all operations is done, once there were enough to tell."""
        if self.operations > max(MOST_OPERATIONS * share, MOST_OPERATIONS // 20):
            raise OverflowError


class Stopping(TorchFunctionMode):
    """Within the block, code ends with OverflowError once a counter has had its most operations.

    It is asked before each function that Python calls: raised from within one of torch's, an error can end the process.
    """

    def __init__(self, counter: Limited) -> None:
        super().__init__()
        self.counter = counter

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counter.expect(1.0)
        return func(*args, **(kwargs or {}))


class SayingNo(TorchFunctionMode):
    """Within the block, shadows that are asked whether they are true say no, as in `if mask.any():`.

    Raises OverflowError for code that goes on asking.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") != "__bool__" or args[0].dtype != torch.bool:
            return func(*args, **(kwargs or {}))
        self.asked += 1
        if self.asked > MOST_QUESTIONS:
            raise OverflowError
        return False


def as_shadow(model: Model, device: torch.device) -> Model:
    """The model itself with all parameters and buffers as shadows on `device`; call it within `shadow_mode`."""
    replaced: dict[int, tuple[Tensor, Tensor]] = {}

    def shadow(old: Tensor) -> Tensor:
        if id(old) not in replaced:
            new: Tensor = torch.empty_strided(old.size(), old.stride(), dtype=old.dtype, device=device)
            if isinstance(old, nn.Parameter):
                new = nn.Parameter(new, old.requires_grad)
            replaced[id(old)] = old, new
        return replaced[id(old)][1]

    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = shadow(tensor)  # type: ignore[assignment]
    return model


@contextmanager
def unchecked_distributions() -> Iterator[None]:
    """Within the block, torch's distributions do not validate their arguments."""
    from torch.distributions import Distribution

    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


def remember_calls(model: nn.Module, counted: Callable[[], int], count: Callable[[int], None]) -> None:
    """Make each module below `model` compute once per argument shapes, and return the cached result afterwards.

    A cached call adds the FLOPs of the first, by `count`, to what `counted` returns: a sampler of 1,000 steps takes
    the time of one. Valid for modules whose work depends only on the shapes of their arguments.
    """
    for module in model.modules():
        if module is not model:
            module.forward = _Remembered(module.forward, counted, count)


class _Remembered:
    """A function of shadow tensors, computed once for the same shapes, dtypes and other plain arguments.

    Any other object, such as a cache, may change from call to call, and with it the work.
    """

    def __init__(self, function: Callable[..., Any], counted: Callable[[], int], count: Callable[[int], None]) -> None:
        self.function, self.counted, self.count = function, counted, count
        self.known: dict[Any, tuple[Any, int]] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from torch.utils._pytree import tree_flatten, tree_map_only

        leaves, structure = tree_flatten((args, kwargs))
        if torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in leaves):
            return self.function(*args, **kwargs)  # the backward pass is counted too
        if not all(isinstance(x, PLAIN) for x in leaves):
            return self.function(*args, **kwargs)
        key = (str(structure), tuple((x.shape, x.dtype) if isinstance(x, Tensor) else x for x in leaves))
        if key in self.known:
            result, flops = self.known[key]
            self.count(flops)
            return tree_map_only(Tensor, torch.empty_like, result)
        before = self.counted()
        result = self.function(*args, **kwargs)
        self.known[key] = result, self.counted() - before
        return result
