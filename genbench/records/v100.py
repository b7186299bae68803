"""V100-days: device-seconds times the number of V100s one device equals, a factor that is given or measured.

No such factor holds for all workloads: a conversion states its origin, and without one nothing is converted. Rombach et
al. (2022) count an A100 as 2.2 V100s in their published compute.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from genbench.records.record import Record
from genbench.records.record_files import Found, find_records
from genbench.support import clock
from genbench.support.errors import BadInput
from genbench.support.seeds import derive_seed
from genbench.support.store import write_json

if TYPE_CHECKING:
    import torch

NOMINAL_FLOPS = 15.7e12
TENSOR_FLOPS = 125e12
"""FLOP/s of a V100 SXM2: in float32, and with 16-bit products. Source: NVIDIA, Tesla V100 GPU accelerator (2018)."""
NOMINAL = {"fp32": (NOMINAL_FLOPS, "in float32"), "bf16": (TENSOR_FLOPS, "on its tensor cores, with 16-bit floats")}
"""By precision the rate that is assumed for a training, and of what it is."""
DAY_SECONDS = 86_400
GIVEN = "a factor that was given, not measured"
MEASURED = f"by float32 matrix products against a V100's nominal {NOMINAL_FLOPS / 1e12:g} TFLOP/s"
FORM = "a positive number such as 2.2, or a file that a calibration wrote"


class Conversion(BaseModel):
    """How many V100s one device equals; it holds only for `device` (on a CPU, with as many `threads`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    factor: FiniteFloat = Field(gt=0)
    basis: str = GIVEN
    device: str = ""
    threads: int = Field(0, ge=0)
    flops_per_second: FiniteFloat | None = None

    @property
    def words(self) -> str:
        """`1 device = 2.2 V100, a factor that was given, not measured`."""
        return f"1 device = {self.factor:.4g} V100, {self.basis}" + (f", on {self.device}" if self.device else "")

    def holds_for(self, record: Record) -> bool:
        """Whether the record's device, and threads, are the calibrated ones; true if no device is named."""
        here = record.environment
        return self.device in ("", here.device) and self.threads in (0, here.threads)

    def write(self, path: Path) -> None:
        """Write the file that `--v100-factor` reads."""
        write_json(path, self.model_dump(mode="json"))


def parse_conversion(text: str) -> Conversion:
    """The conversion that `--v100-factor` names: a number, or the file of a calibration. Raises BadInput."""
    try:
        return Conversion(factor=float(text))
    except ValidationError:
        raise BadInput(f"--v100-factor {text}", FORM) from None
    except ValueError:
        pass
    try:
        return Conversion.model_validate_json(Path(text).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise BadInput(f"--v100-factor {text}: neither a number nor a calibration", FORM) from error


def nominal_days(flops: float, utilisation: float, precision: str = "fp32") -> float:
    """V100-days for `flops` at a share of a V100's nominal rate in a precision: arithmetic, not a measurement."""
    return flops / (NOMINAL[precision][0] * utilisation) / DAY_SECONDS


def nominal_words(utilisation: float, precision: str = "fp32") -> str:
    """The assumption of `nominal_days`, as it is printed."""
    flops, how = NOMINAL[precision]
    rate = f"{flops / 1e12:g} TFLOP/s {how}"
    return f"1 V100 = {utilisation:.4g} of its nominal {rate}, assumed, not measured"


def find_converted(runs: Iterable[Path], conversion: str | None) -> Found:
    """The unchanged records in the folders of runs, with V100-days if a factor is given."""
    given = None if conversion is None else parse_conversion(conversion)
    found = find_records(runs, curves=False)
    return replace(found, records=convert(found.records, given))


def convert(records: Iterable[Record], conversion: Conversion | None) -> list[Record]:
    """The records, with `cost.train.v100_days` and its basis if the conversion holds for their device."""
    return [_converted(record, conversion) if conversion else record for record in records]


def _converted(record: Record, conversion: Conversion) -> Record:
    train = record.cost.train
    if train is None or not conversion.holds_for(record):
        return record
    days = train.device_seconds * conversion.factor / DAY_SECONDS
    train = train.model_copy(update={"v100_days": days, "v100_basis": conversion.words})
    return record.model_copy(update={"cost": record.cost.model_copy(update={"train": train})})


def measure_conversion(device: torch.device, seconds: float = 2.0, size: int | None = None) -> Conversion:
    """The rate that the device sustains in float32 products of square matrices (no TF32), over a V100's nominal rate.

    On a CPU it uses torch's current number of threads. `size` is the matrices' side.
    """
    import torch

    from genbench.devices import device_name, exact_arithmetic, synchronize

    exact_arithmetic()
    side = size or (8192 if device.type == "cuda" else 1024)
    generator = torch.Generator(device).manual_seed(derive_seed(0, "calibration"))
    left, right = (torch.randn(side, side, device=device, generator=generator) for _ in range(2))
    out = torch.empty_like(left)

    def products(least: float) -> float:
        """Products per second, measured over at least `least` seconds."""
        synchronize(device)
        count, began = 0, clock.now()
        while True:
            torch.mm(left, right, out=out)
            synchronize(device)
            count += 1
            if (passed := clock.now() - began) >= least:
                return count / passed

    products(seconds / 4)
    rate = 2 * side**3 * products(seconds)
    return Conversion(
        factor=rate / NOMINAL_FLOPS, basis=MEASURED, device=device_name(device), flops_per_second=rate,
        threads=torch.get_num_threads() if device.type == "cpu" else 0,
    )  # fmt: skip
