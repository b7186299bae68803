"""The sentences under a table about what its models cost, and how they were trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from genbench.records.record import Record
from genbench.support.parts import FIRST_STAGE
from genbench.support.text import list_words, number
from genbench.tables.columns import throughputs
from genbench.tables.groups import Group, is_reference
from genbench.tables.layout import Column
from genbench.tables.parts import parameters_of, phases_of


def of_cost(group: Group, columns: list[Column]) -> Iterator[str]:
    keys = {key.metric for column in columns for key in column.keys}
    models = [record for record in group.records if record.cost.train or record.cost.sample]
    if not keys & {"device_seconds", "overall_device_seconds", "images_per_second"} or not models:
        return
    devices = sorted({device_words(record) for record in models})
    apart = (
        "; compute of different devices is not comparable"
        if len({record.environment.device for record in models}) > 1
        else ""
    )
    yield (
        f"Compute covers every phase of training{_phases(models)} but not scoring, checkpoints or preparation, on "
        f"{', '.join(devices)}{apart}."
    )
    shared = sorted({r.job.label for r in models if r.cost.train and r.cost.train.trained_by})
    if shared:
        yield f"{', '.join(shared)}: the weights of another row; each row shows what their training cost, paid once."
    if "overall_v100_days" in keys:
        for basis in sorted({record.cost.train.v100_basis for record in models if record.cost.train} - {""}):
            yield f"V100-days are converted from device-seconds: {basis}."
    if "first_stage_device_seconds" in keys:
        yield from first_stages(models)
    yield from _sampling(models)
    yield from _energy(models)
    yield from uncounted(models)


def first_stages(models: Iterable[Record]) -> Iterator[str]:
    """That a first stage is in the numbers of models that have one, unlike in published ones."""
    known = {(r.job.label, parameters_of(r, FIRST_STAGE)) for r in models if phases_of(r, FIRST_STAGE)}
    if known:
        sizes = ", ".join(f"{label}: {number(size, 'si')}" for label, size in sorted(known))
        yield (
            f"A first stage is in generator and overall compute and in the parameters ({sizes}); published rows leave "
            "theirs out."
        )


def uncounted(models: list[Record]) -> Iterator[str]:
    if missing := sorted({name for record in models if record.cost.train for name in record.cost.train.uncounted_ops}):
        yield f"FLOPs leave out operators that could not be counted: {', '.join(missing)}."


def _phases(models: list[Record]) -> str:
    """` (gan: critic and generator; ldm: autoencoder and diffusion)`: the phases of models that have several."""
    several = {
        r.job.label: list_words(r.cost.train.phases) for r in models if r.cost.train and len(r.cost.train.phases) > 1
    }
    return f" ({'; '.join(f'{label}: {names}' for label, names in sorted(several.items()))})" if several else ""


def _energy(models: list[Record]) -> Iterator[str]:
    """What counted the energy, and whose was not."""
    costs = [(r.job.label, cost) for r in models for cost in (r.cost.train, r.cost.sample) if cost]
    sources = sorted({cost.energy.source for _, cost in costs if cost.energy})
    without = sorted({label for label, cost in costs if not cost.energy})
    if not sources:
        yield "Energy: not measured."
    else:
        yield f"Energy: {'; '.join(sources)}{f'; not measured for {list_words(without)}' if without else ''}."


def _sampling(models: list[Record]) -> Iterator[str]:
    """What samples/s means, and what other batches give."""
    batches = sorted({record.cost.sample.batch for record in models if record.cost.sample})
    if batches:
        yield f"samples/s at batch {', '.join(map(str, batches))}, conversion to uint8 included."
    rates, names = [], {(record.job.label, record.job.block) for record in models}
    several = Counter(label for label, _ in names)
    for record in models:
        label, found = record.job.label, throughputs(record)
        name = f"{label} ({record.job.block.lower()})" if several[label] > 1 else label
        if len(found) > 1:
            best = max(found, key=lambda pair: pair[1])
            first = f"{number(found[0][1], 'rate')} at batch 1, " if found[0][0] == 1 else ""
            rates.append(f"{name} {first}{number(best[1], 'rate')} at batch {best[0]}")
    if rates:
        seeds = "" if len(rates) == len(names) else ", each seed"
        yield f"samples/s one at a time and at the best batch size tried{seeds}: {'; '.join(rates)}."


def of_training(group: Group) -> Iterator[str]:
    models = [record for record in group.records if not is_reference(record)]
    trained = [record for record in models if record.job.budget.amount]
    budgets = budgets_of(trained)
    if len(budgets) == 1:
        yield f"Training budget of every model{' trained here' if len(trained) < len(models) else ''}: {budgets[0]}."
    elif budgets:
        yield differing(budgets)
    yield from _weights(trained)
    trials = sorted({(r.job.label, str(r.tuning_trials)) for r in models if r.tuning_trials is not None})
    if trials:
        silent = sorted({record.job.label for record in models if record.tuning_trials is None})
        untold = f"; not reported for {', '.join(silent)}" if silent else ""
        yield f"Configurations tried beforehand: {', '.join(map(' '.join, trials))}{untold}."
    for name in sorted({record.job.label for record in models if record.external_data}):
        data = sorted({part for record in models if record.job.label == name for part in record.external_data})
        yield f"{name} uses external data or weights: {', '.join(data)}."


def budgets_of(models: Iterable[Record]) -> list[str]:
    """The budgets that models were trained with: `60 seconds`."""
    return sorted({record.job.budget.words() for record in models} - {""})


def differing(budgets: list[str]) -> str:
    return f"Training budgets differ: {'; '.join(budgets)}."


def _weights(trained: list[Record]) -> Iterator[str]:
    """Which weights are scored, as far as the harness trained them: a plugin's own training may pick as it likes."""
    own = [record for record in trained if record.cost.train and record.cost.train.steps]
    looped = [record for record in own if "ema_decay" in record.job.config]
    averaged = {record.job.label for record in looped if record.job.config["ema_decay"]}
    last = {record.job.label for record in looped} - averaged
    which = [f"averaged weights{f' ({list_words(sorted(averaged))})' if last else ''}"] if averaged else []
    which += [f"the last ones{f' ({list_words(sorted(last))})' if averaged else ''}"] if last else []
    if which:
        yield f"Models are scored when their budget is spent, with {' or '.join(which)}: no best checkpoint is picked."


def device_words(record: Record) -> str:
    """`AMD EPYC (2 threads)`, and the processes if several trained a model."""
    environment = record.environment
    threads, processes = environment.threads, environment.processes
    together = f", {processes} processes" if processes > 1 else ""
    return f"{environment.device} ({threads} thread{'s' if threads != 1 else ''}{together})"
