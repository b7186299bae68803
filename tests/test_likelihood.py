"""bits/dim as the harness measures them: parts, errors, relations, and the terms over time."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from finished import run_here
from records_factory import full, make_record, measure, write_runs

from genbench import Batch, DataSpec, Model
from genbench.data.dataset import Dataset, Part
from genbench.evaluate.likelihood import likelihood_measurements, split_measurements
from genbench.evaluate.over_time import keep_bound_over_time
from genbench.plots import ALL
from genbench.plots.bound import bound_over_time, read_terms
from genbench.records.budget import Budget
from genbench.records.job import Job
from genbench.records.protocol import EvaluationSettings
from genbench.records.record import PluginStamp
from genbench.records.record_files import load_records
from genbench.records.slots import Slot
from genbench.support.errors import CorruptData
from genbench.tables.build import make_tables
from genbench_ddpm import DDPM
from genbench_vae import VAE

DIMS = 64
NLL = Slot("bits_per_dim_test")
SMALL = ["-d", "digits", "--budget", "20steps", "--samples", "60", "--likelihood-images", "40", "--device", "cpu"]


def some_data(images: np.ndarray) -> Dataset:
    part = Part(images, None)
    return Dataset("toy", "", "0" * 64, images.shape[1:], 0, (), 0, Path(), part, part)


def noise(n=40, seed=0) -> Dataset:
    return some_data(np.random.default_rng(seed).integers(0, 256, (n, 1, 8, 8), dtype=np.uint8))


def some_job(seed=0, images=1000) -> Job:
    return Job(
        model="toy", label="toy", plugin=PluginStamp(name="toy", version=""), dataset="toy", dataset_digest="0" * 64,
        samples=10, budget=Budget(unit="steps", amount=1), seed=seed,
        evaluation=EvaluationSettings(likelihood_images=images),
    )  # fmt: skip


class Toy(Model):
    """Parts that are known: `first` of -log_prob is 3 nats an image, `second` is 5 and noise of variance 4."""

    name = "toy"
    likelihood = "bound"

    def __init__(self, **facts):
        super().__init__(DataSpec("toy", (1, 8, 8)), Model.Config())
        self.calls = 0
        for name, value in facts.items():
            setattr(self, name, value)

    def bound_terms(self, images, labels=None):
        self.calls += len(images)
        return {"first": torch.full((len(images),), 3.0), "second": 5 + 2 * torch.randn(len(images))}

    def log_prob(self, images, labels=None):
        return -sum(self.bound_terms(images, labels).values())


def bits(nats):
    return nats / DIMS / math.log(2)


# Parts.


@pytest.mark.parametrize("discrete", [True, False])
def test_parts_are_in_bits_per_dimension_and_sum_to_the_value(discrete):
    model, data = Toy(discrete=discrete), noise(600)
    test, train = (split_measurements(some_job(), model, data, data.test, split)[0] for split in ("test", "train"))
    assert (test.metric, train.metric) == ("bits_per_dim_test", "bits_per_dim_train")
    assert list(test.parts) == ["first", "second"] + ([] if discrete else ["levels"])
    assert test.parts["first"] == pytest.approx(bits(3)) and test.parts["second"] == pytest.approx(bits(5), abs=0.01)
    assert sum(test.parts.values()) == pytest.approx(test.value, rel=1e-9)
    assert test.value == pytest.approx(bits(8) + (0 if discrete else 7), abs=0.01)
    assert test.discrete is discrete and test.kind == "bound"
    assert model.calls == 1200  # each image of each split once


def test_a_likelihood_without_parts_has_none():
    class Plain(Model):
        name = "plain"

        def log_prob(self, images, labels=None):
            return torch.full((len(images),), -64 * math.log(2))

    for measured in likelihood_measurements(some_job(), Plain(DataSpec("toy", (1, 8, 8)), Model.Config()), noise()):
        assert measured.parts == {} and measured.value == pytest.approx(8) and measured.kind == "exact"


def test_a_part_that_is_not_finite_fails_the_number():
    class Broken(Toy):
        def bound_terms(self, images, labels=None):
            return super().bound_terms(images) | {"third": torch.tensor([math.nan] + [0.0] * (len(images) - 1))}

    found = likelihood_measurements(some_job(), Broken(), noise())[0]
    assert found.value is None and found.status == "failed" and "1 of 40 images" in found.note


def test_a_part_of_another_shape_is_refused():
    class Broken(Toy):
        def bound_terms(self, images, labels=None):
            return {"first": torch.zeros(len(images), 1)}

    with pytest.raises(ValueError, match=r"shape \(40,\), not \(40, 1\)"):
        likelihood_measurements(some_job(), Broken(), noise())


# Errors.


def test_the_error_covers_the_estimation():
    """Equal images: all spread of the value is that of the estimate, and the printed error says how large it is."""
    data = some_data(np.full((50, 1, 8, 8), 77, np.uint8))
    found = [likelihood_measurements(some_job(seed), Toy(discrete=True), data)[0] for seed in range(200)]
    spread, told = np.std([m.value for m in found]), np.mean([m.stderr for m in found])
    assert told == pytest.approx(bits(2) / math.sqrt(50), rel=0.05)
    assert spread == pytest.approx(told, rel=0.2)


@pytest.mark.slow
def test_the_error_of_a_diffusion_bound_covers_its_monte_carlo():
    """A diffusion model on one image many times: the value moves from seed to seed as its error says."""
    torch.manual_seed(0)
    config = DDPM.Config(**DDPM.presets["tiny"] | {"bound_exact": 1, "bound_strata": 2})
    model = DDPM(DataSpec("toy", (1, 8, 8)), config).eval()
    smooth = np.add.outer(np.arange(8), np.arange(8)).astype(np.uint8) * 15
    data = some_data(np.broadcast_to(smooth, (60, 1, 8, 8)).copy())
    found = [likelihood_measurements(some_job(seed), model, data)[0] for seed in range(30)]
    spread, told = np.std([m.value for m in found], ddof=1), np.mean([m.stderr for m in found])
    assert 0.6 * told < spread < 1.5 * told
    assert list(found[0].parts) == ["L_T", "L_t", "L_0"] and "all 50 steps" in found[0].note


# The VAE's two bounds.


def test_a_vae_has_both_bounds_and_the_elbo_is_looser():
    torch.manual_seed(0)
    model = VAE(DataSpec("toy", (1, 8, 8)), VAE.Config(**VAE.presets["tiny"] | {"iwae": 16})).eval()
    torch.nn.init.normal_(model.from_latent.weight, std=1.0)
    found = {m.metric: m for m in likelihood_measurements(some_job(), model, noise(200))}
    assert list(found) == [f"bits_per_dim_{kind}{split}" for split in ("test", "train") for kind in ("", "elbo_")]
    for split in ("test", "train"):
        iwae, elbo = found[f"bits_per_dim_{split}"], found[f"bits_per_dim_elbo_{split}"]
        assert iwae.value < elbo.value and iwae.protocol == elbo.protocol
        assert list(elbo.parts) == ["reconstruction", "rate"] and not iwae.parts
        assert sum(elbo.parts.values()) == pytest.approx(elbo.value, rel=1e-9)
        assert "IWAE-16" in iwae.note and "one draw" in elbo.note and elbo.kind == iwae.kind == "bound"
    with torch.inference_mode():
        mean, log_std = model.encode(Batch(torch.zeros(1, 1, 8, 8)).images)
        rate = model.elbo_terms(torch.zeros(1, 1, 8, 8))["rate"]
    assert rate.item() == pytest.approx(float((0.5 * (mean**2 + (2 * log_std).exp() - 1) - log_std).sum()), rel=1e-5)


# Relations.


@pytest.mark.parametrize(
    ("kind", "discrete", "relation"),
    [
        ("exact", True, ""),
        ("exact", False, "<="),
        ("bound", True, "<="),
        ("bound", False, "<="),
        ("estimate", True, "~"),
    ],
)
def test_only_an_exact_likelihood_of_the_levels_stands_without_a_sign(kind, discrete, relation):
    record = make_record("mine")
    record.measurements.append(measure("bits_per_dim_test", 2.0, record.protocols, kind=kind, discrete=discrete))
    del record.measurements[-3:-1]
    (table,) = make_tables([record])
    assert table.rows[0].cells[NLL].relation == relation


def test_discrete_and_continuous_models_share_a_column():
    """What a model's likelihood is of is in its measurement, not in the protocol, which would split the table."""
    records = []
    for name, facts in {"levels": {"discrete": True, "likelihood": "exact"}, "density": {"discrete": False}}.items():
        record = make_record(name)
        record.measurements = likelihood_measurements(some_job(), Toy(**facts), noise())
        record.protocols = {m.protocol: m.settings for m in record.measurements}
        records.append(record)
    (table,) = make_tables(records)
    assert {row.name: row.cells[NLL].relation for row in table.rows} == {
        "levels": "",
        "density": "<=",
    }


# Terms over time.


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A diffusion model, a latent one and a VAE, trained for a moment."""
    out = tmp_path_factory.mktemp("terms") / "runs"
    models = [part for name in ("ddpm", "ldm", "vae") for part in ("-m", name, "--set", f"{name}.preset=tiny")]
    run_here("run", *models, *SMALL, "--extractor", "digits-classifier-v1", "--jobs", 2, "--out", out)
    return {record.job.model: record for record in load_records([out])}


@pytest.mark.slow
def test_runs_keep_the_terms_over_time(runs):
    for name in ("ddpm", "ldm"):
        kept = json.loads((runs[name].folder / "bound.json").read_text())
        assert "bound.json" in runs[name].artifacts
        assert kept["t"][0] == 1 and kept["t"][-1] == 50 and kept["t"] == sorted(set(kept["t"]))
        assert len(kept["t"]) == len(kept["bits_per_dim"]) == len(kept["stderr"]) <= 60 and kept["images"] == 64
    assert "bound.json" not in runs["vae"].artifacts and read_terms(runs["vae"]) is None


@pytest.mark.slow
def test_terms_over_time_sum_to_the_parts(runs):
    """With 50 steps every t has its term: t = 1 is L_0, the others sum to L_t, both within their errors."""
    terms = read_terms(runs["ddpm"])
    parts = runs["ddpm"].measurements[-2].parts
    assert runs["ddpm"].measurements[-2].metric == "bits_per_dim_test" and terms.t == sorted(terms.t)
    assert terms.bits_per_dim[0] == pytest.approx(parts["L_0"], rel=0.15)
    times = np.arange(2, 51)
    inner = np.exp(np.interp(np.log(times), np.log(terms.t), np.log(terms.bits_per_dim))).sum()
    assert inner == pytest.approx(parts["L_t"], rel=0.15)


@pytest.mark.slow
def test_latent_diffusion_has_its_bound_in_parts(runs):
    found = next(m for m in runs["ldm"].measurements if m.metric == "bits_per_dim_test")
    assert list(found.parts) == ["reconstruction", "log q(u|x)", "L_T", "L_t", "L_0"] and found.kind == "bound"
    assert sum(found.parts.values()) == pytest.approx(found.value) and found.discrete


@pytest.mark.slow
def test_the_plot_has_a_line_a_run(runs):
    figure = bound_over_time(full(runs.values()))
    (axes,) = figure.axes
    assert len(axes.lines) == 2 and axes.get_xscale() == axes.get_yscale() == "log"
    assert "bound-over-time" in ALL and "sum" in figure.get_label()
    assert not any(axes.has_data() for axes in bound_over_time(full([runs["vae"]])).axes)


def test_lines_of_one_colour_have_marks_that_differ(tmp_path):
    named = [make_record(f"m{i}").model_copy(update={"artifacts": ["bound.json"]}) for i in range(19)]
    plain = {"images": 9, "t": [1, 2, 10], "bits_per_dim": [0.5, 0.2, 0.1], "stderr": [0.1, 0.1, 0.1]}
    for record in (records := write_runs(named, tmp_path)):
        (record.folder / "bound.json").write_text(json.dumps(plain))
    (axes,) = bound_over_time(full(records)).axes
    looks = [(line.get_color(), line.get_marker()) for line in axes.lines]
    assert len(set(looks)) == 19 and len({colour for colour, _ in looks}) == 8
    assert [(line.get_color(), line.get_marker()) for line in axes.get_legend().legend_handles] == looks


def test_what_is_not_positive_is_named_not_dropped(tmp_path):
    (record,) = write_runs([make_record("ddpm").model_copy(update={"artifacts": ["bound.json"]})], tmp_path)
    plain = {"images": 9, "t": [1, 2, 10], "bits_per_dim": [-0.5, 0.2, 0.1], "stderr": [0.1, 0.1, 0.1]}
    (record.folder / "bound.json").write_text(json.dumps(plain))
    assert "1 terms of ddpm that are zero or negative" in bound_over_time(full([record])).get_label()


@pytest.mark.parametrize("text", ["", "[]", '{"images": 9, "t": [1], "bits_per_dim": [NaN], "stderr": [0.1]}'])
def test_a_damaged_file_is_named(tmp_path, text):
    (record,) = write_runs([make_record("ddpm").model_copy(update={"artifacts": ["bound.json"]})], tmp_path)
    (record.folder / "bound.json").write_text(text)
    with pytest.raises(CorruptData, match=r"bound\.json"):
        read_terms(record)


def test_terms_that_are_not_finite_leave_no_file(tmp_path, caplog):
    class Broken(Toy):
        def bound_over_time(self, images, labels=None):
            return torch.tensor([1, 2]), torch.full((2, len(images)), math.inf)

    (tmp_path / "bound.json").write_text("of an earlier attempt")
    keep_bound_over_time(some_job(), Broken(), noise(), tmp_path)
    assert not (tmp_path / "bound.json").exists() and "not finite" in caplog.text
