"""Each sentence under a table is true of the rows that it stands under."""

import pytest
from records_factory import make_record, quick_suite, reference

from genbench.condition import ConditionSpec
from genbench.evaluate.likelihood import note
from genbench.records.budget import Budget
from genbench.records.cost import Throughput
from genbench.tables.build import make_tables


def below(records, layout="full"):
    """All footnotes of the one table of these records, as one text."""
    (table,) = make_tables(records, layout)
    return "\n".join(table.footnotes)


def decayed(label, decay, **changes):
    return make_record(label, config={"ema_decay": decay}, **changes)


def foreign(label="theirs"):
    """Samples made elsewhere: neither trained nor drawn here."""
    record = make_record(label, bits=None)
    job = record.job.model_copy(update={"budget": Budget(unit="images", amount=0)})
    return record.model_copy(update={"job": job, "cost": type(record.cost)()})


def test_weights_are_averaged_only_where_they_were():
    assert "with averaged weights: no best" in below([decayed("ddpm", 0.999), decayed("vae", 0.99)])
    assert "with the last ones: no best" in below([decayed("gan", 0)])
    mixed = below([decayed("ddpm", 0.999), decayed("gan", 0), decayed("vae", 0.99)])
    assert "with averaged weights (ddpm and vae) or the last ones (gan): no best checkpoint is picked." in mixed


def test_nothing_is_said_of_the_weights_of_a_training_that_the_harness_did_not_see():
    record = decayed("own", 0.999)
    train = record.cost.train.model_copy(update={"steps": None, "images": None})
    assert "weights" not in below([record.model_copy(update={"cost": record.cost.model_copy(update={"train": train})})])


def test_samples_made_elsewhere_have_no_budget_and_no_compute():
    text = below([foreign(), make_record("ddpm", device="AMD EPYC")])
    assert "Training budget of every model trained here: 60 seconds." in text
    alone = below([foreign()])
    assert "budget" not in alone and "Compute covers" not in alone and "weights" not in alone
    assert "Training budget of every model: 60 seconds." in below([make_record("ddpm"), make_record("vae")])


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        ({"ddpm": "bound"}, {"≤"}),
        ({"odd": "estimate"}, {"~"}),
        ({"ddpm": "bound", "odd": "estimate"}, {"≤", "~"}),
    ],
)
def test_marks_of_likelihoods_are_explained_where_they_stand(kinds, told):
    (sentence,) = [
        line for line in below([make_record(name, kind=kind) for name, kind in kinds.items()]).splitlines()
        if line.startswith("NLL in bits/dim")
    ]  # fmt: skip
    assert {mark for mark in "≤~" if mark in sentence} == told


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (["real"], "held-out real images: training images against the test set, test images against the training set); "
         "it is not ranked."),
        (["noise"], "noise is the ceiling; it is not ranked."),
        (["noise", "copies"], "noise is the ceiling; copies are training images, what a model that copies would score; "
         "none of them is ranked."),
        ([], ""),
    ],
)  # fmt: skip
def test_only_the_reference_rows_that_are_there_are_explained(rows, sentence):
    text = below([make_record("ddpm"), *map(reference, rows)])
    assert sentence in text and ("floor" in text) == ("real" in rows) and ("ceiling" in text) == ("noise" in rows)


@pytest.mark.parametrize(("condition", "told"), [(ConditionSpec("hole", (1, 8, 8)), True), (None, False)])
def test_the_error_of_fid_is_not_over_conditions_of_which_there_are_several_samples(condition, told):
    record = make_record("ddpm")
    record = record.model_copy(update={"job": record.job.model_copy(update={"condition": condition})})
    assert ("the error of FID is over other samples, not over other conditions" in below([record])) is told


def test_phases_are_those_of_the_models():
    assert "every phase of training but not" in below([make_record("ddpm")])
    text = below([record for record in quick_suite() if record.job.model in ("ddpm", "gan", "ldm")])
    assert "every phase of training (gan: generator and critic; ldm: autoencoder and diffusion) but not" in text


def test_energy_that_was_not_measured_is_only_that():
    assert "Energy: not measured." in below([make_record("ddpm")], "cost")


class Dense:
    """A model of densities, as far as its note needs it."""

    discrete, likelihood_note = False, ""

    def __init__(self, likelihood):
        self.likelihood = likelihood


def test_an_estimate_is_no_bound():
    """An estimate of something that bounds the likelihood bounds nothing itself."""
    assert (
        note(Dense("exact"))
        == "exact density of uniformly dequantised images, hence a bound on the discrete likelihood"
    )
    assert "hence" in note(Dense("bound")) and "hence" not in note(Dense("estimate"))


def test_rates_of_two_rows_of_one_label_are_told_apart_and_are_no_seeds():
    records = [make_record("gan"), make_record("gan", conditional=True), make_record("vae")]
    for record, rate in zip(records, (10.0, 20.0, 30.0)):
        record.cost.sample.throughput = [Throughput(batch=1, images_per_second=rate)]
    text = below(records, "cost")
    assert "one at a time and at the best batch size tried: gan (" in text and "each seed" not in text
    for words in ("gan (unconditional) 10", "gan (conditional) 20", "; vae 30"):
        assert words in text


def test_warnings_of_two_rows_of_one_label_are_told_apart():
    records = [make_record("gan"), make_record("gan", conditional=True)]
    for record in records:
        record.warnings.append("it may have collapsed")
    assert "Warning, gan, conditional (seed 0): it may" in below(records)
    assert "Warning, gan, unconditional (seed 0): it may" in below(records)
    assert "Warning, gan (seed 0)" in below(records[:1])
