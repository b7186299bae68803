"""The one place that tells CPU from CUDA: which devices there are, precision, autocast, clocks and peak memory."""

from __future__ import annotations

import platform
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch

from genbench.support.cgroup import memory_limits
from genbench.support.errors import BadInput, EnvironmentProblem, first_line


def resolve_devices(request: str) -> list[torch.device]:
    """The devices of `--device`: auto, cpu, cuda, or a list such as cuda:0,cuda:1.

    Raises BadInput for an invalid name, EnvironmentProblem for a device that this machine does not have.
    """
    if request == "auto":
        return [torch.device("cuda:0" if torch.cuda.is_available() else "cpu")]
    devices = []
    for name in request.split(","):
        try:
            device = torch.device(name.strip())
        except RuntimeError:
            raise BadInput(
                f"--device {request}: unknown device {name!r}", "use auto, cpu, cuda, or cuda:0,cuda:1"
            ) from None
        if device.type not in ("cpu", "cuda"):
            raise BadInput(
                f"--device {request}: {device.type} is not supported", "use auto, cpu, cuda, or cuda:0,cuda:1"
            )
        found = torch.cuda.device_count() if device.type == "cuda" else 1
        if (device.index or 0) >= found:
            message = f"--device {request}: {name} not found, this machine has {found} {device.type} device(s)"
            raise EnvironmentProblem(message, "`genbench doctor` lists them")
        devices.append(torch.device("cuda", device.index or 0) if device.type == "cuda" else device)
    if len(set(devices)) < len(devices):
        raise BadInput(f"--device {request}: a device is named twice", "use --jobs to run several jobs on one device")
    return devices


def one_device(request: str) -> torch.device:
    """The device of `--device` if only one is allowed. Raises as `resolve_devices`, and BadInput for several."""
    devices = resolve_devices(request)
    if len(devices) > 1:
        raise BadInput(f"--device {request}: this takes one device", "name one, such as cuda:0")
    return devices[0]


def group_devices(devices: list[torch.device], processes: int) -> list[tuple[str, ...]]:
    """The devices grouped for jobs of `processes` each: all on the CPU, or one CUDA device per process.

    Raises BadInput if they cannot be divided evenly, EnvironmentProblem if processes cannot be joined here.
    """
    names = [str(device) for device in devices]
    if processes == 1:
        return [(name,) for name in names]
    distributed = torch.distributed
    if not distributed.is_available() or (devices[0].type == "cuda" and not distributed.is_nccl_available()):
        raise EnvironmentProblem(f"--processes {processes}: this torch cannot join processes (torch.distributed, NCCL)")
    if devices[0].type == "cpu":
        return [tuple(names) * processes]
    if len(names) % processes:
        raise BadInput(
            f"--processes {processes}: each process needs its own CUDA device, and {len(names)} are given",
            "name a multiple of them: --device " + ",".join(f"cuda:{i}" for i in range(processes)),
        )
    return [tuple(names[i : i + processes]) for i in range(0, len(names), processes)]


def devices_elsewhere(request: str, processes: int) -> list[tuple[str, ...]]:
    """The devices of a job on a machine that chooses them itself: one group, which gives only their kind.

    Raises BadInput if the request names a particular device.
    """
    if request not in ("auto", "cpu", "cuda"):
        raise BadInput(
            f"--device {request}: elsewhere the executor chooses the devices", "use --device cpu, or --device cuda"
        )
    kind = resolve_devices("auto")[0].type if request == "auto" else request
    return [("cpu",) * processes if kind == "cpu" else tuple(f"cuda:{i}" for i in range(processes))]


def check_compiler(device: torch.device) -> None:
    """Compile and run a trivial function. Raises EnvironmentProblem if that does not work."""
    try:
        torch.compile(lambda x: x + 1)(torch.ones(2, device=device))
    except Exception as error:
        raise EnvironmentProblem(
            f"--compile: torch.compile does not work on {device}: {first_line(error)}",
            "it needs a C++ compiler (g++, or CXX) with Python's headers, and Triton for CUDA; or leave --compile out",
        ) from error


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 products run in hardware on this device."""
    if device.type == "cuda":
        with torch.cuda.device(device):  # torch asks the current one
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def resolve_precision(request: str, device: torch.device, allowed: bool) -> str:
    """`fp32` or `bf16`: auto means bf16 if the hardware has it and the model allows it."""
    if request == "auto":
        return "bf16" if allowed and has_bf16(device) else "fp32"
    return request if allowed else "fp32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """bfloat16 autocast, or nothing in full precision."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def use_threads(count: int) -> None:
    """Limit this process to `count` CPU threads, in torch and in the linear algebra of numpy and scipy."""
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(count)
    threadpool_limits(count, user_api="blas")


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed torch's global generators of the CPU and of the device's kind.

    Like `torch.manual_seed`, which also checks every other kind of device, at a noticeable cost per training step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Leave the global generators of torch, NumPy and Python as they are, whatever the block draws."""
    python, numpy = random.getstate(), np.random.get_state()
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count()) if used else ()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def use_device(device: torch.device) -> None:
    """Make the device this process's default."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def communication(device: torch.device) -> str:
    """The torch.distributed backend by which processes on such devices exchange tensors."""
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"


def exact_arithmetic() -> None:
    """Use full float32 products (no TF32) and, where CUDA has a choice, deterministic kernels."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def for_attention(heads: torch.Tensor) -> torch.Tensor:
    """Queries, keys or values (..., places, channels) in the memory layout that makes the device's attention fast.

    A GPU's fused kernels are faster with contiguous channels, even including the copy; a CPU's are not.
    """
    return heads.clone(memory_format=torch.contiguous_format) if heads.is_cuda else heads


def wake(device: torch.device) -> None:
    """Make a GPU load its libraries for products and convolutions, which takes seconds the first time."""
    if device.type == "cuda":
        weight = torch.ones(8, 8, 3, 3, device=device, requires_grad=True)
        for precision in ("fp32", "bf16"):
            with autocast(device, precision):
                features = torch.nn.functional.conv2d(weight, weight).flatten(1)
                (features @ features).sum().backward()  # type: ignore[no-untyped-call]
        synchronize(device)


def synchronize(device: torch.device) -> None:
    """Wait for the work queued on the device, so that a clock read afterwards is right."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """The hardware's name; "" for a GPU that this machine does not have."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device) if torch.cuda.is_available() else ""
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peak; if the kernel does not support this (Linux only), a CPU peak counts from the process's start."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory(device: torch.device) -> tuple[int, str]:
    """Peak bytes and what they count: the allocator's on CUDA, the resident set of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), "torch.cuda.max_memory_allocated"
    if (peak := _own_bytes("VmHWM")) is not None:
        return peak, "resident set (VmHWM)"
    import resource

    factor = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * factor, "resident set (ru_maxrss)"


def resident_memory(device: torch.device) -> int:
    """Bytes that this process uses before any training, if its peak counts them: on a CPU, else 0."""
    if device.type == "cuda":
        return 0
    return _own_bytes("VmRSS") or peak_memory(device)[0]


def memory_for_jobs(device: torch.device) -> int:
    """Bytes that jobs may use together: a GPU's memory, or the free main memory within this process's limits."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    import psutil

    return min([int(psutil.virtual_memory().available), *memory_limits()])


def _own_bytes(what: str) -> int | None:
    """Linux's figure of this name for this process's memory; None if there is none."""
    for line in _lines(Path("/proc/self/status")):
        if line.startswith(what):
            return int(line.split()[1]) * 1024
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
