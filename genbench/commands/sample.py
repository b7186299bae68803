"""More images from a finished run: `genbench sample`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from genbench.data.condition_files import read_condition, read_text
from genbench.data.condition_plan import ConditionPlan, conditions_of
from genbench.data.encoders import Chosen, choose
from genbench.data.folders import cache_root
from genbench.devices import use_threads
from genbench.executors.local import threads_for
from genbench.images import to_uint8
from genbench.model import DataSpec, Model
from genbench.plots.sheets import as_picture, sheet
from genbench.records import checkpoint
from genbench.records.job import Job, read_job
from genbench.records.record import Record
from genbench.records.record_files import load_one
from genbench.records.samples import BLOCK
from genbench.running.defaults import load_plugins
from genbench.running.sample import draw
from genbench.support import store
from genbench.support.errors import BadInput, CorruptData
from genbench.support.text import say
from genbench.support.validation import checked
from genbench.training.memory import forget

SCALE = 4


def draw_from_run(
    folder: Path,
    count: int,
    labels: str | None,
    steps: int | None,
    out: Path,
    plugins: tuple[str, ...],
    seed: int | None = None,
    encoder: str | None = None,
    **given: str | Path | None,
) -> Path:
    """Write `count` images of a run to a .png sheet or .npy array. Raises BadInput if the run cannot draw them.

    They follow the run's own samples in the stream of its seed, or of another `seed`. `given` is what to condition on
    by kind: `text`, or a file with a `map`, a `hole` or an `image`. A text is encoded by the run's own `encoder`.
    """
    if out.suffix not in (".png", ".npy"):
        raise BadInput(f"-o {out}: unknown kind of file", "use FILE.png or FILE.npy")
    if out.exists() and any((parent / "job.json").exists() for parent in out.resolve().parents[:2]):
        raise BadInput(f"-o {out}: a file of a run", "choose a new file, outside its folder")
    record = load_one(folder)
    job = read_job(folder)
    here = {"runtime": job.runtime.model_copy(update={"device": "cpu"})}
    job = job.model_copy(update=here | ({} if seed is None else {"seed": seed}))
    model = load_model(record, job, folder, {} if steps is None else {"steps": steps}, plugins)
    first = record.samples.count
    chosen = choose(encoder, load_plugins(plugins).registered("register_encoders"), cache_root()) if encoder else None
    plan = asked(job, record, count, labels, given, chosen)
    use_threads(threads_for(1))
    blocks = []
    for start in range(first, first + count, BLOCK):
        blocks.append(to_uint8(draw(job, model, plan, start, min(BLOCK, first + count - start))))
    images = torch.cat(blocks)
    if out.suffix == ".npy":
        store.write_array(out, images.numpy())
    else:
        write_sheet(images, out)
    return out


def asked(
    job: Job, record: Record, count: int, labels: str | None, given: Mapping[str, str | Path | None],
    encoder: Chosen | None = None,
) -> ConditionPlan:  # fmt: skip
    """The conditions of further samples: of labels, or all of one text or file."""
    conditions, first = conditions_of(job.kind), record.samples.count
    for kind, what in given.items():
        if what is not None and kind != job.kind:
            raise BadInput(
                f"--{kind} {what}: {job.id} does not condition on that", f"it conditions on {job.kind or 'nothing'}"
            )
    what = given.get(job.kind) if job.kind else None
    if what is None:
        return ConditionPlan(conditions, conditions.asked(labels, count, record), first=first)
    assert job.condition is not None
    if job.kind == "text":
        part = read_text(str(what), job.condition, record.dataset, encoder)
    else:
        part = read_condition(Path(what), job.condition, record.dataset.shape)
    return ConditionPlan(conditions, np.zeros(count, np.int64), part, first)


def load_model(record: Record, job: Job, folder: Path, overrides: dict[str, Any], plugins: tuple[str, ...]) -> Model:
    """The trained model of a run, with some of its sampling options overridden."""
    if job.is_reference or job.foreign:
        raise BadInput(f"{folder}: the row {job.model!r} has no model to sample from", "give the run of a model")
    if not job.samples:
        raise BadInput(f"{folder}: model {job.model!r} draws no samples: it has no method sample()", "give another run")
    kind = model_class(job, folder, plugins)
    for key in overrides:
        if key not in kind.Config.model_fields or kind.Config.role(key) != "sample":
            raise BadInput(
                f"--{key}: model {job.model!r} has no sampling option of that name", "`genbench models` lists them"
            )
    classes = record.dataset.num_classes if job.kind == "class" else 0
    spec = DataSpec(job.dataset, record.dataset.shape, classes, job.condition)
    where = folder / "job.json"
    try:
        config = checked(kind.Config, {**job.config, **overrides}, lambda keys: str(where), "run the job again")
    except BadInput as error:
        raise CorruptData(error.message, f"have the model's options changed? {error.hint}") from error
    model = kind(spec, config)
    loaded = checkpoint.load(folder / "checkpoint")
    if loaded is None or "ema" not in loaded[0]:
        raise BadInput(f"{folder}: it has no trained weights", "run the job first")
    restore(model, loaded[0]["ema"], folder / "checkpoint")
    return forget(model).eval()


def model_class(job: Job, folder: Path, files: tuple[str, ...]) -> type[Model]:
    """The class of the job's model. Only `files` and installed plugins are loaded: the contents of a run are data."""
    plugins = load_plugins(files)
    if job.runtime.plugins and job.model not in plugins.model_names:
        message = f"{folder}: model {job.model!r} came from {', '.join(job.runtime.plugins)}"
        raise BadInput(message, "name it again with --plugin: code that a run folder names is not run automatically")
    kind, source = plugins.model(job.model)
    if job.plugin.digest and source.digest != job.plugin.digest:
        say(f"warning: {folder}: the code of {job.model!r} has changed since: its weights may draw something else now")
    return kind


def restore(model: Model, weights: dict[str, torch.Tensor], origin: Path) -> None:
    """Load the weights into the model. Raises CorruptData if they are another model's, or not finite."""
    bad = [name for name, tensor in weights.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if bad:
        raise CorruptData(f"{origin}: {bad[0]} of the averaged weights (ema) is not finite", "run the job again")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        said = " ".join(str(error).split())
        raise CorruptData(
            f"{origin}: the averaged weights (ema) are another model's: {said}", "run it again"
        ) from error


def write_sheet(images: torch.Tensor, out: Path) -> None:
    """Write a PNG of all images, row by row, enlarged SCALE times."""
    columns = max(1, min(16, int(np.ceil(np.sqrt(len(images))))))
    picture = as_picture(sheet(images.numpy(), columns), images.shape[1])
    picture = picture.resize((picture.width * SCALE, picture.height * SCALE), Image.Resampling.NEAREST)
    with store.atomic_file(out) as temporary:
        picture.save(temporary, format="PNG")
