"""Realistic records, and run folders with samples and learning curves, without training anything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from genbench.records.code import CodeStamp
from genbench.records.cost import Cost, PhaseCost, SampleCost, TrainCost
from genbench.records.record import (
    REFERENCES,
    CurvePoint,
    DatasetStamp,
    Entropy,
    Environment,
    Failure,
    JobStamp,
    Measurement,
    PluginStamp,
    Record,
    SamplesStamp,
)
from genbench.records.ruler import Ruler, Rung
from genbench.tables.layout import Table

PAYLOADS = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onmouseover=alert(1) x='", "{{7*7}}",
    "</script><script>alert(1)", "javascript:alert(1)", "data:text/html,<b>", "$\\frac{$", "_hidden",
    '=HYPERLINK("http://x")', "\x1b[2J", "\u202e", "x" * 300,
]  # fmt: skip
"""Names and messages that try to break out of a page, a table, a spreadsheet or a terminal."""
CLASSIFIER = {"name": "mnist-classifier-v1", "dim": 64, "num_classes": 10, "digest": "5eed" * 16}
DIGEST = "a1b2c3d4e5f6" * 5
REAL = {
    "fid_test": 20.9,
    "fid_train": 21.4,
    "kid_test": 0.01,
    "inception_score": 9.3,
    "precision": 0.93,
    "recall": 0.92,
}
COPIES = {
    "fid_test": 18.2,
    "fid_train": 1.4,
    "kid_test": 0.009,
    "inception_score": 9.4,
    "precision": 0.94,
    "recall": 0.93,
    "memorised_share": 1.0,
    "copied_share": 1.0,
    "copied_test_share": 0.0,
}
NOISE = {
    "fid_test": 4612.0,
    "fid_train": 4630.0,
    "kid_test": 61.3,
    "inception_score": 1.02,
    "precision": 0.0,
    "recall": 0.0,
}
HIGHER = ("inception_score", "precision", "recall", "density", "coverage", "two_sample")
STDERR = {"inception_score": 0.12}
PHASES = {"ldm": ("autoencoder", "diffusion"), "gan": ("generator", "critic")}


def protocol_of(metric: str, **changes: Any) -> tuple[str, dict[str, Any]]:
    """A protocol as the evaluator writes it, and its fingerprint."""
    split = "train" if metric.endswith("train") else "test"
    settings: dict[str, Any] = {"dataset": DIGEST, "split": split, "seed": 2020}
    if metric.startswith("bits_per_dim"):
        settings |= {"family": "likelihood", "unit": "bits per dimension", "images": 1000, "weights": "ema"}
    else:
        settings |= {"family": "fidelity", "metric": metric, "samples": 1000, "extractor": CLASSIFIER}
        settings |= {"reference_images": 4000 if split == "train" else 1000, "versions": {"torch": "2.10.0"}}
    settings |= changes
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12], settings


def measure(metric: str, value: float | None, protocols: dict[str, dict[str, Any]], **extra: Any) -> Measurement:
    """One measurement, whose protocol (changed by `extra["protocol"]`) is added to `protocols`."""
    key, settings = protocol_of(metric, **(extra.pop("protocol", None) or {}))
    protocols[key] = settings
    if value is None:
        extra = {"status": "not_applicable", "note": "the model defines no likelihood"} | extra
    else:
        extra = {"stderr": STDERR.get(metric)} | extra
    better = "higher" if metric in HIGHER else "lower"
    return Measurement(
        metric=metric, value=value, count=settings.get("samples", 1000), protocol=key, better=better, **extra
    )


def values_of(fid: float) -> dict[str, float | None]:
    """Fidelity metrics that go with an FID."""
    return {
        "fid_test": fid, "fid_train": fid * 1.02, "kid_test": fid / 2000, "inception_score": max(1.0, 9.5 - fid / 200),
        "precision": max(0.0, 0.9 - fid / 2000), "recall": max(0.0, 0.9 - fid / 1000),
    }  # fmt: skip


def make_record(
    label: str = "ddpm",
    seed: int = 0,
    *,
    model: str | None = None,
    status: str = "complete",
    fid: float = 66.1,
    values: Mapping[str, float | None] | None = None,
    bits: float | None = 1.41,
    kind: str = "bound",
    protocol: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    dataset: str = "mnist5k",
    digest: str = DIGEST,
    conditional: bool = False,
    device: str = "cpu",
    flops: float | None = 4.2e14,
    rate: float = 41.0,
    error: tuple[str, str] = ("RuntimeError", "the loss is not finite"),
    shape: tuple[int, int, int] = (1, 28, 28),
) -> Record:
    """One record; `values` are its fidelity metrics (by default those of `fid`), `protocol` changes their settings."""
    model = model or label
    ok, is_model = status == "complete", model not in REFERENCES
    protocols: dict[str, dict[str, Any]] = {}
    found = [measure(m, v, protocols, protocol=protocol) for m, v in (values or values_of(fid)).items()]
    if is_model:
        extra = {} if bits is None else {"stderr": 0.004, "kind": kind}
        found.append(measure("bits_per_dim_test", bits, protocols, **extra))
        found.append(measure("bits_per_dim_train", None if bits is None else bits - 0.02, protocols, **extra))
    key = hashlib.sha256(
        repr((label, seed, config, conditional, device, protocol, dataset, digest)).encode()
    ).hexdigest()
    plugin = PluginStamp(name=f"genbench_{model}", version="0.1.0", digest="abc123")
    return Record(
        status=status,  # type: ignore[arg-type]
        error=None if ok else Failure(type=error[0], message=error[1], hook="train", plugin=plugin.name),
        job=JobStamp(
            id=f"{label}-{dataset}-seed{seed}-{key[:10]}", model=model, label=label, dataset=dataset, seed=seed,
            config={"batch_size": 64, "learning_rate": 1e-3} | dict(config or {}) if is_model else {},
            budget={"seconds": 60}, conditional=conditional,
        ),
        samples=SamplesStamp(key="5a3b1e" if ok else "", count=1000 if ok else 0),
        dataset=DatasetStamp(
            name=dataset, digest=digest, shape=shape, num_classes=10, counts={"train": 4000, "test": 1000}
        ),
        environment=Environment(
            genbench="0.1.0", plugin=plugin, torch="2.10.0", python="3.11.9", device=device, threads=2,
            precision="fp32",
        ),
        cost=make_cost(model, flops, rate, ok) if is_model else Cost(),
        measurements=found if ok else [],
        protocols=protocols if ok else {},
    )  # fmt: skip


def make_cost(model: str, flops: float | None, rate: float, sampled: bool) -> Cost:
    """What a minute of training costs, split evenly by phase."""
    phases = PHASES.get(model, ("train",))
    share, nfe = len(phases), 50 if model in ("ddpm", "ldm") else 1
    part = PhaseCost(seconds=60 / share, images=38_400 // share, updates=600, flops=(flops or 0) / share)
    parts = {"autoencoder": "first stage"}
    drawn = SampleCost(seconds=1000 / rate, images=1000, images_per_second=rate, batch=250, nfe=nfe)
    return Cost(
        parameters=950_000,
        parameters_by_phase=dict.fromkeys(phases, 950_000 // share),
        train=TrainCost(
            seconds=60, device_seconds=60, images=38_400, steps=600, flops=flops, peak_bytes=412 * 2**20,
            peak_source="process", uncounted_ops=["aten::grid_sampler"] if model == "ldm" else [],
            phases={name: part.model_copy(update={"part": parts.get(name, "generator")}) for name in phases},
        ),
        sample=drawn if sampled else None,
    )  # fmt: skip


def reference(name: str, **changes: Any) -> Record:
    """The row `real`, `copies` or `noise`."""
    return make_record(name, values={"real": REAL, "copies": COPIES, "noise": NOISE}[name], **changes)


def quick_suite(**changes: Any) -> list[Record]:
    """The records of the quick suite: six models and the two reference rows, one seed each."""
    models = [
        ("ddpm", 118.0, 1.42, "bound", 41.0), ("ldm", 152.3, None, "bound", 63.0), ("gan", 83.4, None, "bound", 2300.0),
        ("vae", 444.0, 1.53, "bound", 9100.0), ("flow", 702.5, 1.91, "exact", 800.0),
        ("gaussian", 1644.0, 4.4, "exact", 9e4),
    ]  # fmt: skip
    records = [
        make_record(name, fid=fid, bits=bits, kind=kind, rate=rate, flops=fid * 1e12, **changes)
        for name, fid, bits, kind, rate in models
    ]
    return [*records, reference("real", **changes), reference("noise", **changes)]


def full(records: Iterable[Record]) -> list[Table]:
    """The tables that plots are drawn from."""
    from genbench.tables.build import make_tables

    return make_tables(records, "full")


def write_runs(records: list[Record], folder: Path, images: np.ndarray | None = None) -> list[Record]:
    """Write a run folder a record (samples.npy if it completed, progress.jsonl for a model), and read them.

    `images`, uint8 (N, C, H, W), stand in for samples; by default these are noise.
    """
    from genbench.records.record_files import load_records

    for number, record in enumerate(records):
        run = folder / record.job.id
        run.mkdir(parents=True)
        (run / "record.json").write_text(record.to_json(), encoding="utf-8")
        if record.status == "complete":
            noise = np.random.default_rng(number).integers(0, 256, (64, *record.dataset.shape), dtype=np.uint8)
            noisy = images is None or record.job.model == "noise"
            np.save(run / "samples.npy", noise if noisy else np.roll(images, -7 * number, axis=0))
        if record.cost.train:
            (run / "progress.jsonl").write_text(progress(record), encoding="utf-8")
    return load_records([folder])


def progress(record: Record, points: int = 20) -> str:
    """A learning curve that falls, phase by phase."""
    noise = np.random.default_rng(record.job.seed).standard_normal(points) * 0.02
    lines = []
    for step in range(1, points + 1):
        for phase in PHASES.get(record.job.model, ("train",)):
            loss = 0.3 + 0.7 * float(np.exp(-step / 5)) + float(noise[step - 1])
            line = {"step": step * 30, "images": step * 1920, "seconds": step * 3.0, "phase": phase, "loss": loss}
            lines.append(json.dumps(line | {"learning_rate": 1e-3, "kl": loss / 4}))
    return "\n".join(lines) + "\n"


def seeds_of(label: str, fids: list[float | None], **changes: Any) -> list[Record]:
    """A record a seed from 0 on; None is a seed that diverged."""
    return [
        make_record(label, seed, fid=fid, **changes)
        if fid is not None
        else make_record(label, seed, status="diverged", **changes)
        for seed, fid in enumerate(fids)
    ]


def uneven_suite() -> list[Record]:
    """Three models of three seeds, one of which diverged, under one protocol; a fourth under another; references."""
    return [
        *seeds_of("ddpm", [20.0, 21.0, 22.0], bits=1.42),
        *seeds_of("vae", [21.0, 22.0, 20.6], bits=1.53),
        *seeds_of("flow", [70.0, 71.0, 72.0], bits=1.91, kind="exact"),
        *seeds_of("gan", [12.0, 14.0, None], bits=None),
        *seeds_of("other", [5.0, 6.0, 7.0], protocol={"samples": 2000}),
        reference("real"),
        reference("noise"),
    ]


def with_entropy(record: Record, bits: float = 1.40, error: float = 0.005) -> Record:
    """The record of images drawn from a distribution of known entropy."""
    entropy = Entropy(bits_per_dim=bits, error=error, note="by Monte Carlo over the mixture")
    return record.model_copy(update={"dataset": record.dataset.model_copy(update={"entropy": entropy})})


def with_parts(record: Record, **parts: float) -> Record:
    """The record with the parts of its likelihood of test images."""
    found = [
        m.model_copy(update={"parts": parts if m.metric == "bits_per_dim_test" else {}}) for m in record.measurements
    ]
    return record.model_copy(update={"measurements": found})


def with_elbo(record: Record, bits: float) -> Record:
    """The record with an evidence lower bound beside its likelihood."""
    protocols = dict(record.protocols)
    elbo = measure("bits_per_dim_elbo_test", bits, protocols, kind="bound", stderr=0.004)
    return record.model_copy(update={"measurements": [*record.measurements, elbo], "protocols": protocols})


def planted(payloads: list[str], dataset: str) -> list[Record]:
    """Two runs a payload, one finished and one failed, that have it in every text field."""
    records = []
    for payload in payloads:
        done = make_record("ddpm", protocol={"note": " ".join(payloads)})
        records += [done, make_record("vae", status="failed", error=(payload, payload))]
        for measurement in done.measurements:
            measurement.note = payload
        records[-1].error.traceback = records[-1].error.hook = payload
        for record in records[-2:]:
            record.job.label = f"{record.job.label}{payload}"
            record.job.id = f"{len(records)}{record.status}{payload}"
            record.job.config |= {payload: payload}
            record.job.precision = record.environment.platform = payload
            record.environment.packages = {payload: payload}
            record.dataset.name = record.job.dataset = dataset
            record.external_data = [payload]
            record.command = ("genbench", "run", payload)
            record.code = CodeStamp(ships=False, file=payload, docstring=payload)
    return records


def with_curve(label: str, seed: int = 0, fids: tuple[float, ...] = (80.0, 40.0, 20.0), **changes: Any) -> Record:
    """A record with a curve of three points, at 1, 10 and 100 % of its budget."""
    found = make_record(label, seed, fid=fids[-1], **changes)
    points = [
        CurvePoint(share=10.0**-i, device_seconds=60 * 10.0**-i, flops=1e14 * 10.0**-i, measurements=[
            measure("fid_test", value, found.protocols)
        ])
        for i, value in enumerate(reversed(fids))
    ]  # fmt: skip
    return found.model_copy(update={"curve": points[::-1]})


def with_errors(record: Record, share: float = 0.01) -> Record:
    """The record with standard errors, a share of the value, on all that has none."""
    found = [
        m if m.value is None or m.stderr is not None else m.model_copy(update={"stderr": share * abs(m.value)})
        for m in record.measurements
    ]
    return record.model_copy(update={"measurements": found})


def make_ruler(refused: Mapping[str, str] | None = None, extractor: str = CLASSIFIER["name"]) -> Ruler:
    """A ruler whose metrics rank, but those `refused`; with ladders of blur and noise, which worsen every metric."""

    def scored(control: str, strength: str, spoilt: float) -> Rung:
        values = {name: REAL[name] + spoilt * (NOISE[name] - REAL[name]) for name in REAL}
        return Rung(
            control=control, strength=strength, values=values, errors={n: abs(v) / 50 for n, v in values.items()}
        )

    rungs = [scored("real", "", 0.0), *(scored("blur", f"σ = {s}", s / 10) for s in (1, 2, 4))]
    rungs += [scored("added noise", f"σ = {s}", s / 20) for s in (1, 2, 4)]
    rungs += [scored("copies", "", -0.001), scored("noise", "", 1.0)]
    about = {"classes": 10, "accuracy": {"train": 0.991, "held_out": 0.842, "test": 0.838}, "images": 3600}
    verdicts = {name: (refused or {}).get(name, "") for name in REAL}
    return Ruler(extractor=extractor, images=1000, reference_images=1000, verdicts=verdicts, about=about, rungs=rungs)


def ruled(records: Iterable[Record], *rulers: Ruler) -> list[Record]:
    """The records with these rulers; only `real` keeps the rungs."""
    return [
        record.model_copy(
            update={
                "rulers": {
                    ruler.extractor: ruler if record.job.model == "real" else ruler.model_copy(update={"rungs": []})
                    for ruler in rulers
                }
            }
        )
        for record in records
    ]


def copier(label: str = "memoriser", **changes: Any) -> Record:
    """A record whose samples are copies of training images."""
    return with_copies(make_record(label, **changes), 0.98)


def with_copies(record: Record, share: float, real_high: float = 0.02, metric: str = "copied_share") -> Record:
    """The record with a share of copies, `share` plus or minus 0.01."""
    protocols = dict(record.protocols)
    found = measure(
        metric, share, protocols, interval=(share - 0.01, share + 0.01),
        parts={"exact": share / 2, "real": 0.004, "real_high": real_high}, protocol={"extractor": None},
    )  # fmt: skip
    return record.model_copy(update={"measurements": [*record.measurements, found], "protocols": protocols})


def with_phases(record: Record, seconds: float = 60, **phases: tuple[float, float, str]) -> Record:
    """The record of a training of so many seconds, with these phases: device-seconds, FLOPs, and of what it is part."""
    costs = {
        name: PhaseCost(seconds=took, device_seconds=took, images=100, updates=10, flops=flops, part=part)
        for name, (took, flops, part) in phases.items()
    }
    flops = sum(flops for _, flops, _ in phases.values())
    changes = {"seconds": seconds, "device_seconds": seconds, "flops": flops, "phases": costs}
    train = record.cost.train.model_copy(update=changes)
    parameters = dict(zip(phases, (1_000_000, 200_000, 30_000)))
    cost = {"train": train, "parameters": sum(parameters.values()), "parameters_by_phase": parameters}
    return record.model_copy(update={"cost": record.cost.model_copy(update=cost)})


def of_one_training(records: Iterable[Record], option: str, **others: Any) -> list[Record]:
    """The records as rows of the first one's training; the last word of a label is the value of the sampling option."""
    records = list(records)
    trainers = {record.job.seed: record.job.id for record in reversed(records)}
    found = []
    for record in records:
        value = float(record.job.label.rpartition("-")[2])
        by = trainers[record.job.seed]
        train = record.cost.train.model_copy(update={"trained_by": "" if by == record.job.id else by})
        config = {option: value, **others}
        found.append(record.model_copy(update={
            "cost": record.cost.model_copy(update={"train": train}),
            "samples": record.samples.model_copy(update={"config": config}),
            "job": record.job.model_copy(update={"config": record.job.config | config}),
        }))  # fmt: skip
    return found
