"""Chains, interpolations and neighbours: what they show is so, a run keeps them, and a report needs no model."""

import json

import numpy as np
import pytest
import torch
from page import Page
from PIL import Image
from records_factory import make_record, write_runs
from toys import Toy, build, toy_job

from genbench import DataSpec
from genbench.records.record_files import load_records
from genbench.records.samples import Samples
from genbench.report import build_report
from genbench.running.pictures import COLUMNS, ROWS, keep_pictures
from genbench.support.errors import CorruptData
from genbench.walks import reverse_chain
from genbench_ddpm import DDPM
from genbench_ddpm.chains import between, forward_chain
from genbench_ddpm.diffusion import Diffusion, linear_betas
from genbench_ddpm.samplers import ancestral, ddim
from genbench_flow import Flow
from genbench_ldm import LatentDiffusion
from genbench_vae import VAE

SPEC = DataSpec("digits", (1, 8, 8))


def process(steps=40):
    return Diffusion(linear_betas(steps, 0.01, 0.2))


class Drawer(Toy):
    """Tells of each image what it is: the weight between two, or the time."""

    def interpolate(self, first, second, weights, labels=None):
        return torch.stack([torch.lerp(first, second, weight) for weight in weights])

    def forward_chain(self, images, count):
        return torch.arange(count), torch.stack([images * (1 - i / count) for i in range(count)])

    def reverse_chain(self, n, count, labels=None):
        return torch.arange(count).flip(0), torch.zeros(count, n, *self.data.shape)


# The mathematics


def test_a_forward_chain_has_the_moments_of_the_process():
    """Of a constant image: the variance 1 - alpha_bar_t, and the covariance of a chain, not that of its marginals."""
    torch.manual_seed(0)
    diffusion = process()
    times, states = forward_chain(diffusion, torch.full((20_000, 1), 0.5, dtype=torch.float64), 5)
    assert times.tolist() == [0, 10, 20, 30, 40]
    bars = diffusion.alpha_bar[times]
    torch.testing.assert_close(states.mean(1)[:, 0], bars.sqrt() * 0.5, atol=0.03, rtol=0)
    torch.testing.assert_close(states.var(1)[:, 0], 1 - bars, atol=0.03, rtol=0)
    early, late = states[1, :, 0], states[3, :, 0]
    expected = (bars[3] / bars[1]).sqrt() * (1 - bars[1])
    assert float(torch.cov(torch.stack([early, late]))[0, 1]) == pytest.approx(float(expected), abs=0.03)


@pytest.mark.parametrize("sampler", [ancestral, ddim])
def test_a_reverse_chain_ends_in_the_sample(sampler):
    diffusion = process()
    denoise = diffusion.denoiser(lambda x, t: 0.3 * x)
    noise = torch.randn(3, 4)
    found = []
    for count in (2, 6):
        torch.manual_seed(1)
        times, states = reverse_chain(sampler(diffusion, denoise, noise), diffusion.steps, count)
        assert times[0] == 40 and times[-1] == 0 and (times.diff() < 0).all() and abs(len(times) - count) <= 1
        assert torch.equal(states[0], noise)
        found.append(states[-1])
    assert torch.equal(*found)


def test_between_starts_half_way_and_mixes_images_not_noise():
    """With a walk that takes away no noise, what is left at each weight is the mixture with one noise."""
    diffusion = process()
    first, second = torch.zeros(2, 3), torch.ones(2, 3)
    starts = []

    def walk(x, start):
        starts.append(start)
        yield 0, x

    strip = between(diffusion, walk, first, second, torch.tensor([0.0, 0.25, 1.0]))
    assert starts == [20, 20, 20] and strip.shape == (3, 2, 3)
    signal = diffusion.signal[20].float()
    torch.testing.assert_close(strip[1] - strip[0], torch.full((2, 3), 0.25) * signal)
    torch.testing.assert_close(strip[2] - strip[0], torch.ones(2, 3) * signal)


def test_a_flow_interpolates_from_the_one_image_to_the_other():
    torch.manual_seed(0)
    model = Flow(SPEC, Flow.Config(**Flow.presets["tiny"])).eval()
    first, second = torch.rand(2, 3, 1, 8, 8) * 1.8 - 0.9
    with torch.inference_mode():
        strip = model.interpolate(first, second, torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(strip[0], first, atol=1e-3, rtol=0)
    torch.testing.assert_close(strip[2], second, atol=1e-3, rtol=0)
    assert not torch.allclose(strip[1], first, atol=0.05) and not torch.allclose(strip[1], second, atol=0.05)


@pytest.mark.parametrize("model", [DDPM, LatentDiffusion])
def test_the_reverse_chain_of_a_model_ends_in_what_it_samples(model):
    torch.manual_seed(0)
    built = model(SPEC, model.Config(**model.presets["tiny"])).eval()
    with torch.inference_mode():
        torch.manual_seed(3)
        expected = built.sample(4)
        torch.manual_seed(3)
        _, states = built.reverse_chain(4, 5)
    torch.testing.assert_close(states[-1], expected)


def test_a_vae_between_equal_images_stands_still():
    torch.manual_seed(0)
    model = VAE(SPEC, VAE.Config(**VAE.presets["tiny"])).eval()
    image = torch.rand(2, 1, 8, 8)
    with torch.inference_mode():
        strip = model.interpolate(image, image, torch.linspace(0, 1, 3))
    torch.testing.assert_close(strip[0], strip[2])


# The run folder


def kept(tmp_path, data, model=Drawer, samples=None, weights="w", **changes):
    """The pictures of a toy: what pictures.json tells, and the arrays by name."""
    job = toy_job(tmp_path, model, **changes)
    images = data.test.images[:20] if samples is None else samples
    labels = np.arange(20) % 10 if job.conditional else None
    keep_pictures(job, build(job, data, model), data, Samples(images, labels), weights)
    told = json.loads((job.folder / "pictures.json").read_text())
    return told, {file.stem: np.load(file) for file in (job.folder / "pictures").glob("*.npy")}


def test_a_run_keeps_a_picture_of_each_kind(tmp_path, digits):
    told, arrays = kept(tmp_path, digits)
    assert set(told["columns"]) == set(arrays) == {"forward", "reverse", "between", "neighbours"} and not told["failed"]
    for name, array in arrays.items():
        rows = 2 * ROWS if name == "neighbours" else ROWS
        assert array.dtype == np.uint8 and array.shape == (rows, len(told["columns"][name]), 1, 8, 8)
    between = arrays["between"]
    assert between.shape[1] == COLUMNS
    assert (between[:, 0] == between[:, 1]).all() and (between[:, -1] == between[:, -2]).all()
    rows = {image.tobytes() for image in digits.test.images}
    assert all(image.tobytes() in rows for image in [*between[:, 0], *between[:, -1]])


def test_neighbours_are_the_nearest(tmp_path, digits):
    _, arrays = kept(tmp_path, digits, samples=digits.train.images[5:25])
    grid = arrays["neighbours"]
    assert (grid[:, 0] == digits.train.images[5:13]).all() and (grid[:, 1] == grid[:, 0]).all()
    flat = digits.train.images.reshape(len(digits.train), -1).astype(float)
    for row in grid:
        distances = np.sort(((flat - row[0].ravel()) ** 2).sum(1))
        assert [((image.ravel() - row[0].ravel().astype(float)) ** 2).sum() for image in row[1:]] == list(distances[:3])


def test_pairs_have_one_class_where_the_model_is_told_it(tmp_path, digits):
    class Labelled(Drawer):
        conditional = True

        def interpolate(self, first, second, weights, labels=None):
            self.seen.fill_(float((labels >= 0).sum()))
            return super().interpolate(first, second, weights, labels)

    _, arrays = kept(tmp_path, digits, Labelled, conditional=True)
    where = {image.tobytes(): label for image, label in zip(digits.test.images, digits.test.labels)}
    pairs = [(where[row[0].tobytes()], where[row[-1].tobytes()]) for row in arrays["between"]]
    assert all(one == other for one, other in pairs) and len(set(pairs)) == ROWS


def test_pictures_are_drawn_once_for_the_same_weights_and_samples(tmp_path, digits):
    def stamp():
        (file,) = tmp_path.glob("*/pictures/between.npy")
        return file.stat().st_mtime_ns

    kept(tmp_path, digits)
    first = stamp()
    kept(tmp_path, digits)
    assert stamp() == first
    kept(tmp_path, digits, weights="others")
    assert stamp() != first


def test_what_cannot_be_drawn_says_why_and_costs_no_other_picture(tmp_path, digits):
    class Broken(Drawer):
        def interpolate(self, first, second, weights, labels=None):
            raise ValueError("no way")

        def reverse_chain(self, n, count, labels=None):
            return torch.arange(count), torch.full((count, n, *self.data.shape), torch.nan)

    told, arrays = kept(tmp_path, digits, Broken)
    assert set(arrays) == {"forward", "neighbours"}
    assert told["failed"] == {"between": "ValueError: no way", "reverse": "ValueError: an image is not finite"}


# The report


def reported(tmp_path):
    """The runs of a record with pictures."""
    (record,) = write_runs([make_record("ddpm", 0)], tmp_path / "runs")
    assert record.folder is not None
    shape = record.dataset.shape
    columns = {"forward": [0.0, 500.0, 1000.0], "between": [0.0, 1.0]}
    for name, numbers in columns.items():
        (record.folder / "pictures").mkdir(exist_ok=True)
        np.save(record.folder / "pictures" / f"{name}.npy", np.zeros((4, len(numbers), *shape), np.uint8))
    (record.folder / "pictures.json").write_text(
        json.dumps({"of": {}, "columns": columns, "failed": {"reverse": "ValueError: no way"}})
    )
    record.artifacts.append("pictures.json")
    (record.folder / "record.json").write_text(record.to_json())
    return record.folder


def test_the_page_of_a_run_shows_its_pictures(tmp_path):
    reported(tmp_path)
    out = build_report(load_records([tmp_path / "runs"]), tmp_path / "out").parent
    (file,) = (out / "runs").glob("*.html")
    page = Page(file)
    assert "From image to noise" in page.text and "t = 0, 500, 1,000" in page.text and "Between two images" in page.text
    assert "Nearest training images" not in page.text
    shown = [file.parent / source for source in page.links if "forward" in source]
    assert "Not drawn: ValueError: no way" in page.text
    (dataset,) = map(Page, (out / "datasets").glob("*.html"))
    assert "the same ones for every model" in dataset.text and any("between" in link for link in dataset.links)
    assert shown and Image.open(shown[0]).size == (3 * 29 + 1, 4 * 29 + 1)


@pytest.mark.parametrize(
    ("file", "content"),
    [("pictures.json", b"{"), ("pictures.json", b'{"columns": {"between": ["a"]}}'), ("pictures/between.npy", None)],
)
def test_a_spoilt_picture_is_named(tmp_path, file, content):
    folder = reported(tmp_path)
    if content is None:
        np.save(folder / file, np.zeros((4, 3, 1, 5, 5), np.uint8))
    else:
        (folder / file).write_bytes(content)
    spoilt: list[CorruptData] = []
    out = build_report(load_records([tmp_path / "runs"]), tmp_path / "out", spoilt=spoilt).parent
    assert [str(folder / file) in fault.message for fault in spoilt] == [True]
    (page,) = map(Page, (out / "runs").glob("*.html"))
    assert "Between two images" not in page.text and any("samples/" in source for source in page.links)
    text = Page(out / "runs.html").text
    assert f"{folder.name}/{file}" in text and str(tmp_path) not in text
