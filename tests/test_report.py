"""The report: complete, escaped, self-contained, replaced as a whole, and honest in its headline."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image
from records_factory import PAYLOADS, full, make_record, planted, quick_suite, reference, seeds_of, write_runs

from genbench import plots
from genbench.errors import BadInput
from genbench.record_files import load_records
from genbench.report import build_report
from genbench.report.build import slugs_of
from genbench.report.facts import headlines
from genbench.report.pages import Pages
from genbench.report.place import MARKER
from genbench.safe_text import printable
from genbench.sheets import sheet
from genbench.style import captioned, panels_of
from genbench.tables import make_tables

VOID = {"meta", "link", "img", "source", "br", "hr"}


class Page(HTMLParser):
    """Elements, attributes and text of a page; unbalanced tags are errors."""

    def __init__(self, file: Path):
        super().__init__()
        self.elements, self.ids, self.links, self.texts, self.open = [], [], [], [], []
        self.feed(file.read_text(encoding="utf-8"))
        assert self.open == [], f"{file}: left open: {self.open}"

    def handle_starttag(self, tag, attributes):
        names = dict(attributes)
        assert len(names) == len(attributes), f"an attribute twice: {tag} {attributes}"
        self.elements.append((tag, names))
        self.ids += [names["id"]] if "id" in names else []
        self.links += [names[key] for key in ("href", "src", "srcset") if key in names]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    @property
    def shape(self):
        """What a payload must not change: the elements and the names of their attributes."""
        return [(tag, sorted(names)) for tag, names in self.elements]


def suite(**changes):
    return [
        *quick_suite(**changes),
        make_record("gan", 1, fid=70.0, **changes),
        make_record("gan", 2, status="diverged", **changes),
    ]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    records = write_runs(suite(), folder / "runs")
    return records, build_report(records, folder / "out").parent


@pytest.fixture
def without_plots(monkeypatch):
    """Plots have tests of their own, and take most of a report's time."""
    monkeypatch.setattr(plots, "ALL", {})


def pages(folder):
    return sorted(folder.rglob("*.html"))


def test_every_link_leads_somewhere_inside(built):
    _, folder = built
    parsed = {file: Page(file) for file in pages(folder)}
    assert len(parsed) == 11
    for file, page in parsed.items():
        assert len(page.ids) == len(set(page.ids)), f"an id twice in {file.name}"
        for link in page.links:
            parts = urlsplit(link)
            assert not parts.scheme and not parts.netloc, link
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            assert target.is_file(), f"{file.name}: {link}"
            if parts.fragment:
                assert parts.fragment in parsed[target].ids, f"{file.name}: {link}"


def test_pages_are_self_contained_labelled_and_without_script(built):
    _, folder = built
    for file in pages(folder):
        page = Page(file)
        tags = [tag for tag, _ in page.elements]
        assert "script" not in tags and "iframe" not in tags and "link" not in tags
        policy = [
            names["content"] for tag, names in page.elements if names.get("http-equiv") == "Content-Security-Policy"
        ]
        assert len(policy) == 1 and "default-src 'none'" in policy[0]
        assert ("html", {"lang": "en"}) in page.elements
        assert tags.count("title") == 1 and tags.count("h1") == 1
        assert all(names.get("alt") for tag, names in page.elements if tag == "img")
        assert not any(name.startswith("on") for _, names in page.elements for name in names)
    assert not any("http" in text for text in re.findall(r"url\([^)]*\)", (folder / "index.html").read_text()))


def test_the_index_has_every_part(built):
    _, folder = built
    page = Page(folder / "index.html")
    assert {
        "quality",
        "samples",
        "plots",
        "cost",
        "full",
        "runs",
        "failures",
        "settings",
        "protocols",
        "published",
    } <= set(page.ids)
    for words in (
        "published, not measured here",
        "gan seed 2 diverged",
        "learning_rate",
        "torch",
        "2/3, 1 diverged",
        "≤ 1.420",
    ):
        assert words in page.text
    images = [names["src"] for tag, names in page.elements if tag == "img"]
    assert sum(image.startswith("samples/") for image in images) == 8
    assert sum(image.startswith("plots/") for image in images) == 5


def test_every_number_links_to_a_protocol_with_all_its_settings(built):
    records, folder = built
    page = Page(folder / "index.html")
    linked = [names["href"][1:] for _, names in page.elements if names.get("class") == "number"]
    assert len(linked) > 100
    protocols = {key: value for record in records for key, value in record.protocols.items()}
    assert {anchor for anchor in page.ids if anchor.startswith("protocol-")} == {
        f"protocol-{i + 1}" for i in range(len(protocols))
    }
    for key, settings in protocols.items():
        assert key in page.text
        assert all(name in page.text for name in settings)
    for words in ("extractor.digest", "reference_images", "mnist-classifier-v1"):
        assert words in page.text


def test_tables_lie_beside_the_page_in_every_format(built):
    records, folder = built
    for name in ("quality", "cost", "full", "published"):
        for suffix in ("md", "tex", "csv", "json", "txt"):
            assert (folder / "tables" / f"{name}.{suffix}").stat().st_size > 100
    tables = json.loads((folder / "tables" / "quality.json").read_text())["tables"]
    assert [row["name"] for row in tables[0]["rows"]] == [row.name for row in make_tables(records)[0].rows]


def test_a_sample_sheet_is_the_first_samples_without_loss(built):
    records, folder = built
    record = next(record for record in records if record.job.model == "vae")
    stored = np.load(record.folder / "samples.npy")
    shown = np.asarray(Image.open(folder / "samples" / f"{slugs_of(records)[record.place]}.png").convert("RGB"))
    assert (shown == sheet(stored[:64])).all()


def test_a_run_page_tells_settings_measurements_and_failure(built):
    records, folder = built
    slugs = slugs_of(records)
    failed = next(record for record in records if record.status == "diverged")
    page = Page(folder / "runs" / f"{slugs[failed.place]}.html")
    assert "RuntimeError : the loss is not finite" in page.text
    done = Page(folder / "runs" / f"{slugs[records[0].place]}.html")
    for words in ("bits_per_dim_test", "batch_size", "torch", "Cost by phase", "num_classes"):
        assert words in done.text


def test_two_builds_have_the_same_bytes(built, tmp_path):
    records, folder = built
    again = build_report(list(reversed(records)), tmp_path / "again").parent
    files = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    assert files == sorted(file.relative_to(again) for file in again.rglob("*") if file.is_file())
    for file in files:
        assert (folder / file).read_bytes() == (again / file).read_bytes(), file


def shapes(folder):
    """The elements of the index, and of all run pages, whatever their order."""
    return Page(folder / "index.html").shape, sorted(str(Page(file).shape) for file in (folder / "runs").iterdir())


def test_no_payload_adds_an_element_or_attribute_and_each_is_shown(tmp_path, without_plots):
    plain = [f"plain{i:02}" for i in range(len(PAYLOADS))]
    benign = build_report(planted(plain, "digits"), tmp_path / "benign").parent
    folder = build_report(planted(PAYLOADS, PAYLOADS[1] + "\x1b[2J"), tmp_path / "out").parent
    assert shapes(folder) == shapes(benign)
    index = Page(folder / "index.html")
    assert "\x1b" not in index.text and "\u202e" not in index.text
    assert not any(link.startswith(("javascript:", "data:")) for link in index.links)
    for payload in PAYLOADS:
        assert printable(payload) in index.text


def test_the_description_of_a_plot_is_escaped(tmp_path, monkeypatch):
    def draw(records, looks):
        figure, (axes,) = panels_of(1, (2, 2), 1)
        axes.plot([0, 1])
        return captioned(figure, PAYLOADS[1])

    monkeypatch.setattr(plots, "ALL", {"one": ("One", draw)})
    page = Page(build_report([make_record()], tmp_path / "out"))
    assert not any(names.get("onerror") for _, names in page.elements)
    assert any(PAYLOADS[1] in names["alt"] for tag, names in page.elements if tag == "img")


def test_a_payload_as_job_id_stays_inside_the_report(tmp_path, without_plots):
    records = [make_record("ddpm"), make_record("ddpm", 1)]
    for record in records:
        record.job.id = "../../<script>"
    records[1].job.id += "x"
    folder = build_report(records, tmp_path / "out").parent
    assert len(list((folder / "runs").iterdir())) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_slugs_are_unique():
    records = [make_record("ddpm", seed) for seed in range(3)]
    for record, job in zip(records, ("a/b", "a b", "a-b")):
        record.job.id = job
    assert len(set(slugs_of(records).values())) == 3


# Many runs


def test_of_many_seeds_a_row_shows_the_first_ten_and_the_list_of_runs_has_all(tmp_path):
    records = write_runs(seeds_of("ddpm", [20.0 + seed for seed in range(12)]), tmp_path / "runs")
    folder = build_report(records, tmp_path / "out").parent
    page = Page(folder / "index.html")
    assert len(list((folder / "samples").iterdir())) == 10 and len(list((folder / "runs").iterdir())) == 12
    assert sum(link.startswith("runs/") for link in page.links) == 1 + 12
    assert "12 runs" in page.text and "(of the first 10 seeds)" in page.text


def test_runs_of_one_job_in_two_folders_have_a_page_each(tmp_path):
    for name, fid in (("a", 20.0), ("b", 30.0)):
        record = make_record("ddpm", fid=fid, protocol={"samples": int(fid)})
        record.job.id = "ddpm-same"
        record.samples.key = name
        write_runs([record], tmp_path / name)
    folder = build_report(load_records([tmp_path / "a", tmp_path / "b"]), tmp_path / "out").parent
    texts = [Page(file).text for file in sorted((folder / "runs").iterdir())]
    assert len(texts) == 2 and "20" in texts[0] and "30" in texts[1]


def test_a_record_that_cannot_be_read_is_told_on_the_page_and_the_others_are_there(genbench, tmp_path):
    runs = [record.folder for record in write_runs([*quick_suite(), *seeds_of("mine", [9.0, 9.0])], tmp_path / "runs")]
    broken, changed, gone = (next(run for run in runs if run.name.startswith(name)) for name in ("gan", "vae", "flow"))
    (broken / "record.json").write_text("{")
    text = (changed / "record.json").read_text()
    (changed / "record.json").write_text(text.replace('"seed": 0', '"seed": 7', 1))
    (gone / "record.json").rename(gone / "job.json")
    result = genbench("report", tmp_path / "runs", "-o", tmp_path / "out")
    assert result.code == 3 and "note: 1 without a record yet" in result.err and str(gone) in result.err
    page = Page(tmp_path / "out" / "index.html")
    assert "2 records could not be read and are left out of this page" in page.text and f"{gone.name}." in page.text
    assert f"{broken.name}/record.json: not a record" in page.text
    assert f"{changed.name}/record.json: changed since" in page.text
    assert str(tmp_path) not in page.text and f"{len(runs) - 3} runs" in page.text
    assert not [run for run in (broken, changed, gone) if list((tmp_path / "out" / "runs").glob(f"{run.name}*"))]


# Folders


def test_an_earlier_report_is_replaced_and_nothing_is_left_beside(tmp_path, without_plots):
    build_report([make_record("superseded")], tmp_path / "out")
    folder = build_report([make_record("new")], tmp_path / "out").parent
    assert "superseded" not in Page(folder / "index.html").text
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    assert len(list((folder / "runs").iterdir())) == 1


def test_a_folder_that_is_no_report_is_refused_untouched(tmp_path, without_plots):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="not a report"):
        build_report([make_record()], tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_report_that_somebody_added_a_file_to_is_refused(tmp_path, without_plots):
    folder = build_report([make_record()], tmp_path / "out").parent
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match=r"notes\.txt"):
        build_report([make_record()], folder)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_file_and_an_empty_list_are_refused(tmp_path, without_plots):
    (tmp_path / "out").write_text("")
    with pytest.raises(BadInput, match="not a folder"):
        build_report([make_record()], tmp_path / "out")
    with pytest.raises(BadInput, match="no records"):
        build_report([], tmp_path / "new")


def test_an_empty_folder_is_taken(tmp_path, without_plots):
    (tmp_path / "out").mkdir()
    assert (build_report([make_record()], tmp_path / "out").parent / MARKER).is_file()


def test_a_build_that_breaks_leaves_the_old_report_whole(tmp_path, monkeypatch, without_plots):
    folder = build_report([make_record("old")], tmp_path / "out").parent
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    def broken(*args, **words):
        raise RuntimeError("half way")

    monkeypatch.setattr(Pages, "write", broken)
    with pytest.raises(RuntimeError):
        build_report([make_record("new")], folder)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_no_torch_and_no_plugin_is_imported(tmp_path):
    write_runs([make_record("ddpm"), reference("real")], tmp_path / "runs")
    code = """
import sys
from pathlib import Path
from genbench.formats import render
from genbench.record_files import load_records
from genbench.report import build_report
from genbench.tables import make_tables
from genbench.safe_text import printable
records = load_records([Path(sys.argv[1])])
render(make_tables(records), "text")
build_report(records, Path(sys.argv[2]))
unwanted = ("torch", "genbench_", "genbench.model")
print([name for name in sys.modules if name.startswith(unwanted)])
"""
    command = [sys.executable, "-c", code, str(tmp_path / "runs"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stdout.strip() == "[]"


def test_runs_without_samples_and_curves_still_make_a_page(tmp_path):
    folder = build_report(
        [make_record("ddpm"), make_record("gan", status="failed"), reference("real")], tmp_path / "out"
    ).parent
    assert "no samples" in Page(folder / "index.html").text


def test_only_failures_make_a_page_that_says_so(tmp_path):
    folder = build_report([make_record("gan", status="failed")], tmp_path / "out").parent
    assert "gan seed 0 failed" in Page(folder / "index.html").text


# The headline


def test_the_headline_names_the_lowest_fid_its_cost_and_the_scale():
    (head,) = headlines(full(quick_suite()))
    assert (head.winner, head.value, head.title) == ("gan", "83.40", "mnist5k, unconditional")
    assert head.cost == "60.0 device-seconds of training, 8.34e13 FLOPs, 0.435 s per 1,000 samples, on cpu (2 threads)"
    assert head.others.startswith("ddpm 118.0, ldm")
    assert "real images score 20.90 and noise 4,612" in head.scale
    assert "One seed a model" in head.sure


def test_a_model_with_a_failed_seed_is_never_the_winner():
    records = [make_record("ddpm", seed, fid=15.0 + seed) for seed in range(2)]
    records += [make_record("gan", 0, fid=1.0), make_record("gan", 1, status="diverged")]
    (head,) = headlines(full(records))
    assert head.winner == "ddpm"
    assert "gan is lower over the 1 of 2 runs that finished" in head.sure


@pytest.mark.parametrize(("gap", "words"), [(1.0, "overlap: a tie"), (50.0, "do not overlap")])
def test_a_few_seeds_give_ties_and_no_claim(gap, words):
    records = [
        make_record(name, seed, fid=20.0 + add + 3 * seed)
        for name, add in (("a", 0.0), ("b", gap))
        for seed in range(3)
    ]
    (head,) = headlines(full(records))
    assert words in head.sure
    assert "No claim of significance: fewer than 6 seeds" in head.sure


def test_a_marker_that_is_broken_does_not_unlock_a_folder(tmp_path):
    (tmp_path / MARKER).write_text("{")
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(BadInput):
        build_report([make_record()], tmp_path)
    assert (tmp_path / "mine.txt").exists()
