"""The tuning split: training images held out for choosing options, while the test images stay unseen and apart."""

import json
import pickle

import numpy as np
import pytest
from finished import essence, record_of, run_of, times
from records_factory import make_record

from genbench.data.dataset import Part
from genbench.data.entries import make_entry
from genbench.data.preparation import prepare
from genbench.data.tuning import chosen, parted, prepare_tuning
from genbench.planning.session import Request, open_session
from genbench.records.record import DatasetStamp, tuning_name
from genbench.records.record_files import load_records
from genbench.running.loading import prepared
from genbench.support.errors import BadInput
from genbench.tables.build import make_tables

WORDS = ["--datasets", "mine.toml", "-d", "mine", "-m", "gaussian", "--budget", "5steps", "--samples", "40",
         "--device", "cpu", "--likelihood-images", "10", "--extractor", "digits-classifier-v1",
         "--allow-rank-deficient"]  # fmt: skip
TABLE = '[mine]\nsource = "array"\npath = "a.npz"\ntest_path = "b.npz"\nnum_classes = 10\nshape = [1, 8, 8]\n'


def write_dataset(folder, train, test):
    """A datasets file whose splits are (images, labels)."""
    folder.mkdir(exist_ok=True)
    for name, (images, labels) in {"a": train, "b": test}.items():
        np.savez(folder / f"{name}.npz", images=images, labels=labels)
    (folder / "mine.toml").write_text(TABLE)


def garbage(count, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 1, 8, 8), dtype=np.uint8), random.integers(0, 10, count)


def numbered(count, classes):
    """Images that hold their own number, with labels in unequal shares."""
    images = np.zeros((count, 1, 8, 8), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(count) % 256, np.arange(count) // 256
    return images, np.minimum(np.arange(count) % (classes + 2), classes - 1)


def numbers_in(part):
    return part.images[:, 0, 0, 0].astype(int) + 256 * part.images[:, 0, 0, 1].astype(int)


def entry(folder, num_classes=10, test=60):
    table = {"source": "array", "path": "a.npz", "test_path": "b.npz", "shape": [1, 8, 8]}
    table |= {"num_classes": num_classes} if num_classes else {}
    return make_entry("mine", table, folder, "test.toml")


@pytest.mark.parametrize(("labelled", "test", "apart"), [(True, 60, 60), (False, 60, 60), (True, 1000, 100)])
def test_the_training_images_are_parted_in_equal_shares_of_every_class(labelled, test, apart, tmp_path):
    images, labels = numbered(600, 10)
    write_dataset(tmp_path, (images, labels), garbage(test))
    own = entry(tmp_path, 10 if labelled else 0)
    whole, data = (open_(own, tmp_path, offline=True) for open_ in (prepare, prepare_tuning))
    trained, held = numbers_in(data.train), numbers_in(data.test)
    assert sorted([*trained, *held]) == list(range(600)) and len(held) == apart and data.overlap == 0
    assert data.digest != whole.digest and data.stamp(None).name == "mine (tuning split)" and data.stamp(None).tuning
    assert not whole.stamp(None).tuning and whole.stamp(None).name == "mine"
    if labelled:
        assert np.array_equal(data.test.labels, labels[held]) and np.array_equal(data.train.labels, labels[trained])
        shares = np.bincount(data.test.labels) / np.bincount(labels)
        assert abs(shares - apart / 600).max() * np.bincount(labels).min() < 1
    spread = np.histogram(held, 4, (0, 600))[0]
    assert spread.min() > apart / 8  # not the last ones, nor the first


def test_a_class_of_a_single_image_is_trained_on(tmp_path):
    images, _ = numbered(60, 10)
    labels = np.zeros(60, int)
    labels[7] = 1
    write_dataset(tmp_path, (images, labels), garbage(60))
    data = prepare_tuning(entry(tmp_path), tmp_path, offline=True)
    assert 7 in numbers_in(data.train) and len(data.test) == 10


def test_what_is_held_out_does_not_depend_on_the_test_images_or_on_pixels(tmp_path):
    train, other = numbered(300, 10), garbage(300)[0]
    found = []
    for name, images, test in (("one", train[0], 60), ("two", train[0], 60), ("three", other, 60)):
        write_dataset(tmp_path / name, (images, train[1]), garbage(test, seed=len(found)))
        found.append(prepare_tuning(entry(tmp_path / name), tmp_path, offline=True))
    assert found[0].digest == found[1].digest != found[2].digest
    places = numbers_in(found[0].test)
    assert np.array_equal(found[2].test.images, other[places])


def test_other_conditions_stay_with_their_images():
    images, labels = numbered(50, 3)
    part = Part(images, labels, {"vector": {"vector": np.arange(50)[:, None]}})
    for split in parted(part, chosen(part, 8), ("a", "b", "c")).values():
        own = [image[0, 0, 0] for image, _ in split.items]
        assert split.conditions["vector"]["vector"][:, 0].tolist() == own and split.classes == ("a", "b", "c")


def test_too_few_images_are_refused(genbench, tmp_path):
    write_dataset(tmp_path, numbered(11, 2), garbage(5))
    refused = genbench("run", *WORDS, "--tune")
    assert refused.code == 2 and "11 training images" in refused.err and "at least 12" in refused.err
    assert not (tmp_path / "runs").exists()
    with pytest.raises(BadInput, match="too few"):
        prepare_tuning(entry(tmp_path), tmp_path, offline=True)


def open_tuned(folder, **options):
    """A session of a small run on a tuning split."""
    options = {"datasets": ["mine"], "budget": "5steps", "samples": 40, "tune": True, **options}
    words = {"device": "cpu", "datasets": folder / "mine.toml", "out": folder / "runs"}
    return open_session(Request(None, options, ("gaussian",), (), **words))


def test_a_job_on_the_tuning_split_is_another_job(digits, tmp_path):
    train = digits.train.images[:300], digits.train.labels[:300]
    write_dataset(tmp_path, train, garbage(60))
    tuned, tested = (open_tuned(tmp_path, tune=tune) for tune in (True, False))
    write_dataset(tmp_path, train, (digits.test.images[:60], digits.test.labels[:60]))
    again = open_tuned(tmp_path)
    assert [job.id for job in tuned.jobs] == [job.id for job in again.jobs]
    assert not {job.training_key for job in tuned.jobs} & {job.training_key for job in tested.jobs}
    assert all("-mine-tune-" in job.id and job.tune for job in tuned.jobs)
    assert not any("tune" in job.id or "tune" in job.model_dump() for job in tested.jobs)
    job = tuned.jobs[0]
    here = prepared(job, tuned.context)  # as the process of the job opens it
    assert here.tuning and here.digest == job.dataset_digest and len(here.test) == 50
    assert "50 of 300 training images are held out" in here.remarks[0]
    assert pickle.loads(pickle.dumps(here)).test.labels.tolist() == here.test.labels.tolist()


def test_its_numbers_have_a_table_of_their_own(tmp_path):
    tested, tuned = make_record("vae"), make_record("vae", dataset="tuned")
    stamp = DatasetStamp(**tested.dataset.model_dump(exclude={"name", "digest"}), digest="7" * 64, tuning=True,
                         name=tuning_name(tested.dataset.name))  # fmt: skip
    tuned = tuned.model_copy(update={"dataset": stamp, "job": tested.job.model_copy(update={"tune": True})})
    tables = make_tables([tested, tuned])
    assert [len(table.rows) for table in tables] == [1, 1] and len({table.dataset for table in tables}) == 2
    (own,) = (table for table in tables if table.dataset == "mnist5k (tuning split)")
    headings = [column.heading for column in own.columns]
    assert any("FID held-out@" in heading for heading in headings) and not any(
        "test" in heading for heading in headings
    )
    assert own.footnotes[0].startswith("Tuning split: ") and "without --tune" in own.footnotes[0]
    assert "training images held out" in own.title
    other = next(table for table in tables if table is not own)
    assert not any("held-out@" in column.heading for column in other.columns)
    assert not any("Tuning split" in note for note in other.footnotes)
    plain = json.loads(tuned.to_json())
    assert plain["dataset"]["tuning"] and plain["job"]["tune"] and plain["dataset"]["name"].endswith("(tuning split)")
    assert "tune" not in json.loads(tested.to_json())["job"] and "tuning" not in json.loads(tested.to_json())["dataset"]


@pytest.mark.slow
def test_runs_on_the_tuning_split_never_see_the_test_images_and_stand_apart(genbench, digits, tmp_path):
    """Of two datasets that differ in nothing but their test images, one of them noise, the records are equal."""
    train = digits.train.images[:500], digits.train.labels[:500]
    good, bad = (digits.test.images[:80], digits.test.labels[:80]), garbage(80)
    write_dataset(tmp_path, train, bad)
    first = genbench("run", *WORDS, "--tune", "--out", "bad")
    assert first.code == 0 and "80 of 500 training images are held out" in first.err
    assert "mine (tuning split) (80 of the 500 training images held out; digest" in " ".join(first.out.split())
    assert "FID held-out@40" in first.out and "FID test@40" not in first.out and "without --tune" in first.out
    write_dataset(tmp_path, train, good)
    assert genbench("run", *WORDS, "--tune").code == 0
    assert essence(tmp_path / "bad") == essence(tmp_path / "runs")

    record = record_of(run_of(tmp_path / "runs", "gaussian"))
    assert record["job"]["tune"] and record["dataset"]["tuning"] and "-tune-" in record["job"]["id"]
    assert record["dataset"]["counts"] == {"train": 420, "test": 80}
    before = times(tmp_path / "runs")
    planned = genbench("plan", *WORDS, "--tune", "--json").json
    assert [row["done"] for row in planned] == [True] * 4 and all(row["tune"] for row in planned)
    assert genbench("run", *WORDS, "--tune").code == 0 and times(tmp_path / "runs") == before
    assert not any(row["done"] for row in genbench("plan", *WORDS, "--json").json)

    assert genbench("run", *WORDS).code == 0
    records = load_records([tmp_path / "runs"])
    tables = make_tables(records)
    assert [table.dataset for table in tables] == ["mine", "mine (tuning split)"] and len(records) == 8
    assert all({r.dataset.tuning for row in t.rows for r in row.records} == {"split" in t.dataset} for t in tables)
    assert "tune" not in record_of(next((tmp_path / "runs").glob("gaussian-mine-seed0-*")))["job"]
    assert genbench("verify", "runs").code == 0


@pytest.mark.slow
def test_a_suite_may_ask_for_it_and_labels_go_with_the_images(genbench, digits, tmp_path):
    write_dataset(tmp_path, (digits.train.images[:300], digits.train.labels[:300]), garbage(60))
    (tmp_path / "s.toml").write_text(
        'tune = true\nconditional = true\ndatasets = ["mine"]\nbudget = "3steps"\nsamples = 40\n'
        '[[models]]\nname = "vae"\npreset = "tiny"\nsweep = { batch_size = [8, 16] }\n'
    )
    planned = genbench("plan", "s.toml", *WORDS[:2], *WORDS[-3:], "--json").json
    assert [row["tune"] for row in planned] == [True] * 5 and sum(row["conditional"] for row in planned) == 2
    done = genbench("run", "s.toml", *WORDS[:2], *WORDS[-5:], "--device", "cpu")
    assert done.code == 0
    (folder,) = (tmp_path / "runs").glob("vae-batch_size8-mine-tune-cond-*")
    expected = np.bincount(np.load(folder / "labels.npy"), minlength=10) / 40
    kept = np.bincount(prepare_tuning(entry(tmp_path), tmp_path, True).train.labels, minlength=10) / 250
    assert abs(expected - kept).max() < 1 / 40
