"""What a plan and a run say of the time beforehand: from earlier runs, or from a few images that were tried."""

import re
import threading
import time

import pytest
from finished import SMALL
from plugin_sources import plugin_source

from genbench.evaluate import classifier_training, local_classifier
from genbench.planning import announce, outlay
from genbench.planning.earlier import Earlier
from genbench.planning.estimate import estimate
from genbench.planning.outlay import Outlay, Part, Trials
from genbench.planning.session import Request, open_session
from genbench.support import lock, progress
from genbench.support.lock import locked
from genbench.support.text import duration

NAPPING = plugin_source("""
class Napping(Mean):
    name = "napping"
    likelihood = "exact"
    def sample(self, n, labels=None):
        time.sleep(n / 1000)
        return self.mean.expand(n, *self.data.shape)
    def log_prob(self, images, labels=None):
        time.sleep(len(images) / 500)
        return -(images - self.mean).square().flatten(1).sum(1)

class Broken(Napping):
    name = "broken"
    def log_prob(self, images, labels=None):
        raise RuntimeError("not today")
""")


@pytest.fixture
def napping(tmp_path):
    file = tmp_path / "napping.py"
    file.write_text(NAPPING)
    return file


def outlay_of(model, plugin, change=None, config=None, **options):
    options = {"datasets": ["digits"], "samples": 100, "likelihood_images": 40, "precision": "fp32", **options}
    plugins = (str(plugin),) if plugin else ()
    config = {**({} if plugin else {"preset": "tiny"}), **(config or {})}
    settings = tuple(f"{model}.{key}={value}" for key, value in config.items())
    session = open_session(Request(None, options, (model,), settings, device="cpu", plugins=plugins))
    job, data = session.jobs[0], session.datasets["digits"]
    about = estimate(job, data, session.plugins, [], 0.5)
    if change:
        change(about)
    return Trials(session.plugins).outlay(job, about, data)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (0.001, "0.1 s"), (4.25, "4.2 s"), (60, "60 s"), (180, "3 min"), (4000, "67 min"), (9000, "2.5 h")],
)
def test_seconds_are_said_as_a_person_says_them(seconds, words):
    assert duration(seconds) == words


@pytest.mark.slow
def test_a_few_images_tell_the_time_of_all(napping):
    found = outlay_of("napping", napping, budget="60s")
    seconds = {part.option: part.seconds for part in found.parts}
    assert seconds["--samples"] == pytest.approx(0.1, rel=0.5)
    assert seconds["--likelihood-images"] == pytest.approx(0.16, rel=0.5)
    assert found.train == 60 and found.whole == pytest.approx(60.26, abs=0.2) and not found.warning()
    curve = outlay_of("napping", napping, budget="60s", curve=5)
    (points,) = (part for part in curve.parts if part.option == "--curve")
    assert points.seconds == pytest.approx(0.4, rel=0.5)  # four more samplings: bits/dim is that of the end alone


def test_what_cannot_be_tried_is_not_known(napping, monkeypatch):
    found = outlay_of("broken", napping, budget="60s")
    assert found.unknown == ["bits/dim of 80 images"] and "100 samples" in found.words() and found.whole is None
    assert "not known: bits/dim of 80 images" in found.words()
    monkeypatch.setitem(outlay.TRIED_FLOPS, "cpu", 0.0)
    far = outlay_of(
        "napping", napping, budget="60s", change=lambda about: setattr(about, "sample_flops_per_image", 1e9)
    )
    assert far.unknown[0] == "100 samples" and not far.warning()


def test_a_large_network_is_judged_by_its_flops(monkeypatch):
    whole = outlay_of("vae", None)
    monkeypatch.setattr(outlay, "ENOUGH", 10**9)
    counted = outlay_of("vae", None)
    for one, other in zip(whole.parts, counted.parts, strict=True):
        assert one.what == other.what and 1 / 20 < one.seconds / other.seconds < 20


def test_a_call_that_takes_long_by_its_flops_is_never_made(monkeypatch):
    """A published diffusion model draws one image in a thousand calls: minutes on a CPU."""
    monkeypatch.setattr(outlay.Tried, "draw", lambda *_: pytest.fail("it was drawn from"))
    monkeypatch.setattr(outlay.Tried, "score", lambda *_: pytest.fail("it was scored"))
    monkeypatch.setitem(outlay.TRIED_FLOPS, "cpu", 1.0)
    assert {part.option for part in outlay_of("vae", None).parts} == {"--samples", "--likelihood-images"}


def test_a_sample_of_endlessly_many_steps_is_neither_counted_nor_tried():
    found = outlay_of("gan", None, config={"sampler": "latent_langevin", "steps": 10**12})
    assert found.unknown == ["100 samples"]


def test_only_scoring_that_takes_longer_than_training_is_announced():
    parts = [Part("100 samples", 5.0, "--samples"), Part("bits/dim of 80 images", 90.0, "--likelihood-images")]
    said = Outlay(30.0, parts).warning()
    assert "~95 s, more than the 30 s of training" in said
    assert said.index("~90 s for bits/dim of 80 images (limit: --likelihood-images)") < said.index(
        "~5 s for 100 samples"
    )
    assert "were tried here" in said and "as in 2 earlier runs" in Outlay(30.0, parts, earlier=2).warning()
    assert Outlay(96.0, parts).warning() == Outlay(None, parts).warning() == ""
    assert Outlay(30.0, parts).without_training().warning() == ""


def test_tried_images_must_tell_it_clearly():
    part = [Part("100 samples", 40.0, "--samples")]
    assert not Outlay(30.0, part).warning() and Outlay(30.0, part, earlier=1).warning()


def test_earlier_runs_are_better_known_than_trials(napping):
    past = Earlier(2, 1.0, 1.0, 1.0, 0.5, 70.0, None, None, train_seconds=60.0, sample_seconds=50.0)
    found = outlay_of("napping", napping, budget="60s", change=lambda about: setattr(about, "earlier", past))
    assert found.whole == 180 and found.earlier == 2 and "as in 2 earlier runs" in found.warning()


@pytest.mark.slow
def test_the_first_lines_of_a_plan_say_how_long_it_takes(genbench, napping):
    words = ["--plugin", napping, "-m", "napping", *SMALL[:2], *SMALL[4:], "--budget", "90s", "--seeds", "3"]
    lines = genbench("plan", *words, "--curve", "3").out.splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert text.startswith(
        "6 jobs on digits: napping, 3 seeds each, and the rows real, noise and copies; all to do. "
        "Training: 3 x 90 s = 4.5 min. napping: after its training ~0."
    )
    assert "more points of the curve, as a few images took that were tried here" in text
    (whole,) = re.findall(r"longest first: at least ~([\d.]+) s in all \(4.5 min\); no earlier run of real", text)
    assert float(whole) > 270
    two = " ".join(genbench("plan", *words, "--jobs", "2").out.split())
    assert "Training: 3 x 90 s = 4.5 min, 2 at a time: 3 min." in two
    rows = genbench("plan", *words, "--json").json
    assert [("outlay" in row) for row in rows] == [True] * 3 + [False] * 3
    assert rows[0]["outlay"]["train"] == 90 and rows[0]["outlay"]["parts"][0]["option"] == "--samples"


def test_other_budgets_have_no_time_before_a_first_run(genbench, runs, gaussian_plugin):
    words = ["plan", "--plugin", gaussian_plugin, "-m", "mine", *SMALL, "--seeds", "2"]
    assert "Training: 2 x 20 steps, time not known." in genbench(*words, "--out", "elsewhere").out
    known = " ".join(genbench(*words, "--out", runs).out.split())
    assert re.search(r"Training: 1 x 20 steps, ~\S+ s, as in earlier runs\. mine: after its training", known), known
    assert "1 to do" in known and "4 done" in known


def test_a_classifier_that_is_to_be_trained_is_told_with_its_time(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(classifier_training, "UPDATES", 40)
    said = local_classifier.announcement(digits, tmp_path, "cpu")
    assert "first, a classifier is trained on 1,082 labelled images of digits: ~" in said and "once" in said
    assert "~" not in local_classifier.announcement(digits, tmp_path, None)
    began = time.perf_counter()
    local_classifier.local_classifier(digits, tmp_path)
    took = time.perf_counter() - began
    own, apart = local_classifier.parted(len(digits.train))
    examples = classifier_training.Examples(digits.train.images, digits.train.labels, own, apart)
    assert took / 10 < classifier_training.seconds_to_train(examples, 10) < took * 5
    assert local_classifier.announcement(digits, tmp_path, "cpu") == ""


def test_of_two_runs_one_trains_the_classifier_and_the_other_waits_and_says_so(digits, tmp_path, monkeypatch):
    """The lock is held by another thread, as it would be by another process, until the classifier is there."""
    file, said, trained = local_classifier.classifier_file(digits.digest, tmp_path), [], []

    def train(dataset, file, device):
        trained.append(device)
        file.write_text("{}")

    monkeypatch.setattr(local_classifier, "_train", train)
    monkeypatch.setattr(lock, "LOOK_SECONDS", 0.01)
    progress.listen(lambda stage, share, text, *_: said.append((stage, text)))
    try:
        with locked(file.parent):
            waiting = threading.Thread(target=local_classifier.local_classifier, args=(digits, tmp_path))
            waiting.start()
            for _ in range(500):
                if not said:
                    time.sleep(0.01)
            file.write_text("{}")
        waiting.join()
    finally:
        progress.listen(None)
    ((stage, text),) = said
    assert stage == "note" and text.startswith("waiting for the local classifier of digits, which this process")
    assert not trained
    file.unlink()
    local_classifier.local_classifier(digits, tmp_path)
    assert trained == ["cpu"]


@pytest.mark.slow
def test_scoring_that_takes_longer_than_training_is_announced_before_a_run(
    genbench, napping, gaussian_plugin, monkeypatch
):
    """The trial is made in a process of its own: naps of 14 s after a training of 1 s, or of 60 s."""
    napping.write_text(NAPPING.replace("n / 1000", "n / 100"))
    monkeypatch.setattr(announce, "LITTLE", 0)
    for budget, lines in (("1s", 1), ("60s", 0)):
        options = {"datasets": ["digits"], "samples": 1400, "likelihood_images": 4, "budget": budget}
        session = open_session(Request(None, options, ("napping",), (), device="cpu", plugins=(str(napping),)))
        said = list(announce.announcements(session, session.jobs))
        assert len(said) == lines and all(text.startswith("napping on digits: sampling and") for text in said)
    monkeypatch.setattr(announce, "classifier_text", lambda data, waiting: f"{len(waiting)} jobs wait")
    words = ["run", "--plugin", gaussian_plugin, "-m", "mine", *SMALL]
    first, *_ = (line for line in genbench(*words).err.splitlines() if "digits" not in line)
    assert first == "note: 4 jobs wait"
    assert "note:" not in genbench(*words).err and genbench(*words, "--seeds", "2", "--json").err == ""
