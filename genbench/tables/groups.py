"""Which measurements may share a table: those of one dataset digest taken under one protocol, whatever the model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

from genbench.records.record import REFERENCES, Measurement, Record
from genbench.records.slots import Slot, flatten, slot_of

SORTED = json.JSONEncoder(sort_keys=True)


@dataclass
class View:
    """What one record contributes to one group: at most one measurement a slot."""

    record: Record
    slots: dict[Slot, Measurement] = field(default_factory=dict)

    @cached_property
    def identity(self) -> tuple[Any, ...]:
        return identity(self.record)


@dataclass
class Group:
    """Records that may be ranked with each other; `differs` says what sets them apart from the other groups."""

    dataset: str
    digest: str
    protocols: dict[Slot, str] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    views: list[View] = field(default_factory=list)
    differs: str = ""

    @property
    def records(self) -> list[Record]:
        return [view.record for view in self.views]

    @property
    def is_tuning(self) -> bool:
        """Whether held-out training images take the place of the test images."""
        return self.views[0].record.dataset.tuning

    def admits(self, view: View) -> bool:
        """Whether the view is of the same dataset and no slot of it was measured under another protocol."""
        stamp = view.record.dataset
        return (stamp.name, stamp.digest) == (self.dataset, self.digest) and all(
            self.protocols.get(key, measurement.protocol) == measurement.protocol
            for key, measurement in view.slots.items()
        )

    def fitting(self, record: Record) -> dict[Slot, Measurement]:
        """The record's measurements that were taken under this group's protocols."""
        if (record.dataset.name, record.dataset.digest) != (self.dataset, self.digest):
            return {}
        slots = ((slot_of(measurement, record.protocols), measurement) for measurement in record.measurements)
        return {slot: measurement for slot, measurement in slots if self.protocols.get(slot) == measurement.protocol}

    def add(self, view: View) -> None:
        self.views.append(view)
        for key, measurement in view.slots.items():
            protocol = self.protocols.setdefault(key, measurement.protocol)
            self.settings.setdefault(protocol, view.record.protocols.get(protocol, {}))

    def settings_of(self, key: Slot) -> dict[str, Any]:
        """The settings behind a slot's values."""
        return self.settings[self.protocols[key]]


def is_reference(record: Record) -> bool:
    """Whether the record is a reference row, which has no model."""
    return record.job.model in REFERENCES


def variant(record: Record) -> dict[str, str]:
    """All but the seed that makes two runs of one label different models, as readable settings."""
    job, environment = record.job, record.environment
    plugin = environment.plugin
    settings = {key: _readable(value) for key, value in flatten(job.config).items()}
    settings |= {
        "model": job.model,
        "budget": job.budget.words(),
        "precision": job.precision,
        "device": environment.device.split(":")[0],
        "plugin": str(plugin),
        "source": plugin.source,
    }
    if job.compile:
        settings["compile"] = "true"
    if job.budget.is_timed:
        settings["threads"], settings["processes"] = str(environment.threads), str(environment.processes)
    return settings


def _readable(value: Any) -> str:
    """A setting as text: itself, or as JSON, which the encoder is slow to make of mere numbers."""
    if type(value) in (int, float):
        return repr(value)
    return value if isinstance(value, str) else SORTED.encode(value)


def identity(record: Record) -> tuple[Any, ...]:
    """Two records with one identity and different seeds are repetitions of one experiment: a row of a table."""
    dataset, settings = record.dataset, tuple(sorted(variant(record).items()))
    return record.job.label, record.job.block, dataset.name, dataset.digest, settings


_TRUST = {"diverged": 0, "complete": 1, "failed": 2, "cancelled": 3, "running": 4, "interrupted": 5}


def unique(records: Iterable[Record]) -> tuple[list[Record], list[Record]]:
    """The records with each (model, configuration, seed, samples) once, and the spare ones.

    A finished run outweighs an interrupted one, a divergence a completion: a repetition never improves a row. Of runs
    that have no measurements one is kept, whatever samples they were to give.
    """
    rivals: dict[tuple[Any, ...], list[Record]] = {}
    for record in sorted(records, key=lambda record: (record.job.id, str(record.folder))):
        rivals.setdefault((*identity(record), record.job.seed), []).append(record)
    kept: list[Record] = []
    spare: list[Record] = []
    for group in rivals.values():
        status = min((record.status for record in group), key=_TRUST.__getitem__)
        seen: set[str] = set()
        for record in group:
            samples = record.samples.key if record.measurements else ""
            wanted = record.status == status and samples not in seen
            seen |= {samples} if wanted else set()
            (kept if wanted else spare).append(record)
    return kept, spare


def views(record: Record) -> list[View]:
    """The record's measurements, split if a slot was measured under two protocols."""
    slots = {slot_of(measurement, record.protocols): measurement for measurement in record.measurements}
    if len(slots) == len(record.measurements):
        return [View(record, slots)] if slots else []
    split: list[View] = []
    for measurement in record.measurements:
        key = slot_of(measurement, record.protocols)
        fitting = next((view for view in split if key not in view.slots), None)
        if fitting is None:
            split.append(fitting := View(record))
        fitting.slots[key] = measurement
    return split


def comparable(records: Iterable[Record]) -> list[Group]:
    """The records in groups within which every slot has one dataset digest and one protocol.

    Reference rows join every group they fit, and so do models that draw no samples. A run without a measurement joins
    the groups of its other seeds or, if there are none, all groups of its dataset: a failure is a row.
    """
    models = [view for record in records if not is_reference(record) for view in views(record)]
    groups: list[Group] = []
    for view in sorted(models, key=lambda view: -len(view.slots)):
        most = None if view.record.draws_nothing else 1
        _join(groups, view, list(islice((group for group in groups if group.admits(view)), most)))
    for record in records:
        if is_reference(record) and record.measurements:
            _join_reference(groups, record)
    families = [{view.identity for view in group.views} for group in groups]
    for record in records:
        if not record.measurements:
            view = View(record)
            siblings = [group for group, family in zip(groups, families) if view.identity in family]
            _join(groups, view, siblings or [group for group in groups if group.admits(view)])
            families += [{view.identity} for _ in groups[len(families) :]]
    _tell_apart(groups)
    return groups


def _join_reference(groups: list[Group], record: Record) -> None:
    """Add to each group of its dataset what a reference row has under the group's protocols; alone, it is a group."""
    fitting = [(group, View(record, group.fitting(record))) for group in groups]
    for group, view in fitting:
        if view.slots:
            group.add(view)
    if not any(view.slots for _, view in fitting):
        for view in views(record):
            _join(groups, view, [group for group in groups if group.admits(view)])


def _join(groups: list[Group], view: View, fitting: list[Group]) -> None:
    if not fitting:
        fitting = [Group(view.record.dataset.name, view.record.dataset.digest)]
        groups += fitting
    for group in fitting:
        group.add(view)


def _tell_apart(groups: list[Group]) -> None:
    """Write into each group the settings, with its own values, in which it differs from the others of its dataset."""
    for group in groups:
        others = [other for other in groups if other is not group and other.dataset == group.dataset]
        own: dict[str, str] = {}
        if any(other.digest != group.digest for other in others):
            own["dataset digest"] = group.digest[:12]
        for other in others:
            for key in group.protocols.keys() & other.protocols.keys():
                ours, theirs = flatten(group.settings_of(key)), flatten(other.settings_of(key))
                changed = [name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)]
                own |= {name: json.dumps(ours.get(name)) for name in changed}
                if not changed and group.protocols[key] != other.protocols[key]:
                    own[f"protocol of {' '.join(key)}".strip()] = group.protocols[key]
        group.differs = ", ".join(f"{name} = {value.strip(chr(34))}" for name, value in sorted(own.items()))
