"""A team: the processes that train one model together, joined by torch.distributed while it trains.

Each computes the gradients of its share of an update's micro-batches, and their sum updates every copy of the model
identically. The first process, the leader, starts the others and is in charge of clock, stopping, checkpoints and logs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from genbench.devices import communication, use_device, use_threads
from genbench.support.errors import GenbenchError, ProcessFailed
from genbench.support.processes import Child, Say

if TYPE_CHECKING:
    from genbench.data.dataset import Dataset
    from genbench.metering.meter import Meter
    from genbench.records.job import Job

TIMEOUT = timedelta(minutes=10)
"""How long one process waits for the others, which may be compiling or writing a checkpoint."""
FAREWELL_SECONDS = 10.0
WorkerMain = Callable[[Say, int, int, dict[str, Any], "Dataset", Path], None]
"""What the other processes run: (say, rank, port, job as plain data, dataset, run folder).

It reports once that it is ready, and then only an error that ends it.
"""


class PeerLost(Exception):
    """Another process of the team did not respond."""


@dataclass(frozen=True)
class Team:
    """The rank of this process among the `size` that train a model; with size 1 nothing is communicated."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the leader."""
        return self.rank == 0

    def agree(self, number: float) -> float:
        """The leader's number, on every process."""
        if self.size == 1:
            return number
        message = torch.tensor(number, dtype=torch.float64)
        _answered(lambda: dist.broadcast(message, 0))
        return float(message)

    def total(self, number: float) -> float:
        """The sum of every process's number."""
        if self.size == 1:
            return number
        message = torch.tensor(number, dtype=torch.float64)
        _answered(lambda: dist.all_reduce(message))
        return float(message)

    def share(self, *modules: nn.Module) -> None:
        """Copy the leader's weights and buffers."""
        for tensor in (t for module in modules if self.size > 1 for t in module.state_dict().values()):
            self._take_over([tensor])

    def share_buffers(self, module: nn.Module) -> None:
        """Copy the leader's buffers, in one message."""
        if self.size > 1:
            self._take_over(list(module.buffers()))

    @torch.no_grad()
    def _take_over(self, tensors: list[Tensor]) -> None:
        if not tensors:
            return
        flat = torch.cat([tensor.detach().reshape(-1).view(torch.uint8) for tensor in tensors])
        _answered(lambda: dist.broadcast(flat, 0))
        if not self.leads:
            parts = torch.split(flat, [tensor.nbytes for tensor in tensors])
            for tensor, part in zip(tensors, parts):
                tensor.copy_(part.clone().view(tensor.dtype).view(tensor.shape))

    @torch.no_grad()
    def add_up(self, parameters: list[Tensor], losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Sum gradients, in place, and scalar losses over all processes, by one all-reduce of a flat tensor.

        A missing gradient counts as zero; one that is missing everywhere stays missing.
        """
        if self.size == 1:
            return losses
        gradients = [p.new_zeros(p.shape) if p.grad is None else p.grad for p in parameters]
        present = torch.tensor([float(p.grad is not None) for p in parameters], device=gradients[0].device)
        flat = torch.cat([*(g.reshape(-1) for g in gradients), present, *(v.reshape(1) for v in losses.values())])
        _answered(lambda: dist.all_reduce(flat))
        *sums, present, values = torch.split(flat, [*(g.numel() for g in gradients), len(parameters), len(losses)])
        for parameter, gradient, total, some in zip(parameters, gradients, sums, present.tolist()):
            if some:
                parameter.grad = gradient.copy_(total.view(gradient.shape))
        return dict(zip(losses, values))


def _answered(message: Callable[[], object]) -> None:
    """Exchange a message. Raises PeerLost if another process has ended or takes longer than TIMEOUT."""
    try:
        message()
    except (RuntimeError, ValueError) as error:  # the latter if the group has been aborted
        raise PeerLost(str(error)) from error


@contextmanager
def gathered(job: Job, data: Dataset, folder: Path, meter: Meter, main: WorkerMain) -> Iterator[Team]:
    """The team of a job, as its leader sees it, within the block; its workers run `main` and end with the block.

    Raises the error of a worker that ended too early.
    """
    size = job.runtime.processes
    if size == 1:
        yield Team()
        return
    workers: list[Child] = []
    leaving = threading.Event()
    threads = torch.get_num_threads()
    try:
        with meter.pause():
            store = meeting_point()
            _start(workers, job, data, folder, store.port, main)
            use_threads(job.runtime.process_threads)
            team = join(0, size, store, meter.device)
            threading.Thread(target=_watch, args=(workers, leaving), daemon=True).start()
            meter.processes, meter.peers = size, [worker.process.pid for worker in workers if worker.process.pid]
        yield team
    except PeerLost as lost:
        raise _fault(workers) from lost
    finally:
        leaving.set()
        for worker in workers:
            worker.close()
        break_off()
        use_threads(threads)


def _start(workers: list[Child], job: Job, data: Dataset, folder: Path, port: int, main: WorkerMain) -> None:
    """Start all but the leader, and wait until each has built its model. Raises PeerLost if one ends instead."""
    for rank, device in enumerate(job.runtime.peers, start=1):
        own = job.model_copy(update={"runtime": job.runtime.model_copy(update={"device": device})})
        name = f"process {rank + 1} of {job.runtime.processes}"
        workers.append(Child(name, main, rank, port, own.model_dump(mode="json"), data, folder))
    for worker in workers:
        if next(worker.said(None), None) is None:
            raise PeerLost("ended before it was ready")


def _watch(workers: list[Child], leaving: threading.Event) -> None:
    """Abort the leader's wait when a worker ends with an error; NCCL would wait for its timeout."""
    running = {worker.process.sentinel: worker for worker in workers}
    while running and not leaving.is_set():
        for sentinel in wait(list(running), timeout=0.5):
            worker = running.pop(sentinel)  # type: ignore[arg-type]
            if worker.process.exitcode and not leaving.is_set():
                break_off()
                return


def break_off() -> None:
    """Leave the group without waiting for the others, as an orderly shutdown would."""
    with suppress(Exception):
        dist.distributed_c10d._abort_process_group()
    with suppress(Exception):
        dist.destroy_process_group()


def _fault(workers: list[Child]) -> GenbenchError:
    """What ended the team: preferably an error that a worker reported, since a death may only be its consequence."""
    wait([worker.process.sentinel for worker in workers], timeout=FAREWELL_SECONDS)
    found = [failure for worker in workers if (failure := _failure(worker)) is not None]
    found.sort(key=lambda failure: type(failure) is ProcessFailed)
    return found[0] if found else ProcessFailed(f"a process did not respond within {TIMEOUT}")


def _failure(worker: Child) -> GenbenchError | None:
    """Why a worker ended: the error that it reported or, if it died, how."""
    try:
        list(worker.said())
    except GenbenchError as error:
        return error
    return ProcessFailed(f"{worker.process.name} {worker.ending()}") if worker.process.exitcode else None


def meeting_point(port: int | None = None) -> Any:
    """Where the processes meet: the store that the leader creates or, given its port, a connection to it."""
    leads, place = port is None, ("127.0.0.1", port or 0)
    return dist.TCPStore(*place, is_master=leads, wait_for_workers=False, timeout=TIMEOUT)  # type: ignore[attr-defined]


def join(rank: int, size: int, store: Any, device: torch.device) -> Team:
    """Join the group; returns when all have."""
    use_device(device)
    dist.init_process_group(communication(device), store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    return Team(rank, size)
