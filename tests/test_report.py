"""The report: complete, escaped, self-contained, replaced as a whole, and honest in its headline."""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from page import Page
from PIL import Image
from records_factory import PAYLOADS, make_record, planted, quick_suite, reference, seeds_of, write_runs

from genbench import plots
from genbench.plots.sheets import sheet
from genbench.plots.style import captioned, panels_of
from genbench.records.record_files import load_records
from genbench.report import build_report
from genbench.report.pages import Pages
from genbench.report.place import MARKER
from genbench.report.site import slugs_of
from genbench.support.errors import BadInput
from genbench.support.text import printable
from genbench.tables.build import make_tables


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
    assert {file.relative_to(folder).as_posix() for file in parsed if file.parent.name != "runs"} == {
        "index.html", "ruler.html", "runs.html", "protocols.html", "published.html", "datasets/mnist5k.html",
        *(f"models/{name}.html" for name in ("ddpm", "ldm", "gan", "vae", "flow", "gaussian")),
    }  # fmt: skip
    assert len(list((folder / "runs").iterdir())) == 10
    for file, page in parsed.items():
        assert len(page.ids) == len(set(page.ids)), f"an id twice in {file.name}"
        for link in page.links:
            parts = urlsplit(link)
            assert not parts.scheme and not parts.netloc, link
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            assert target.is_file(), f"{file.name}: {link}"
            if parts.fragment:
                assert parts.fragment in parsed[target].ids, f"{file.name}: {link}"


def test_pages_are_self_contained_labelled_and_without_inline_script(built):
    _, folder = built
    for file in pages(folder):
        page = Page(file)
        tags = [tag for tag, _ in page.elements]
        root = "../" * (len(file.relative_to(folder).parts) - 1)
        assert [names for tag, names in page.elements if tag == "script"] == [{"src": f"{root}assets/site.js"}]
        assert [names["href"] for tag, names in page.elements if tag == "link"] == [f"{root}assets/site.css"]
        assert not {"iframe", "style", "base", "form"} & set(tags)
        assert not any("style" in names or any(name.startswith("on") for name in names) for _, names in page.elements)
        policy = page.attribute("content", ("http-equiv", "Content-Security-Policy"))
        assert len(policy) == 1 and "default-src 'none'" in policy[0] and "unsafe" not in policy[0]
        assert ("html", {"lang": "en"}) in page.elements
        assert tags.count("title") == 1 and tags.count("h1") == 1 and tags.count("main") == 1
        assert all(names.get("alt") for tag, names in page.elements if tag == "img")
    assert "url(" not in (folder / "assets" / "site.css").read_text()


def test_pages_are_valid_html(built):
    html5lib = pytest.importorskip("html5lib", reason="html5lib is not installed (the extra `dev`)")
    _, folder = built
    for file in [file for file in pages(folder) if file.parent.name != "runs"]:
        html5lib.HTMLParser(strict=True).parse(file.read_text(encoding="utf-8"))


def test_the_overview_says_who_won_by_how_much_at_what_cost_and_how_sure(tmp_path, without_plots):
    page = Page(build_report(quick_suite(), tmp_path / "out"))
    for words in (
        "mnist5k, unconditional: lowest FID test@1000 (mnist-classifier-v1)", "gan 83.40",
        "ddpm, 118.0, is next: 1.41 times as high", "One seed per model", "real images score 20.90 and noise 4,612",
        "60.0 device-seconds of training, 8.34e13 FLOPs, 0.435 s per 1,000 samples", "What each model can do",
    ):  # fmt: skip
        assert words in page.text, words


def test_a_column_of_dashes_alone_is_on_no_page(tmp_path, without_plots):
    records = [make_record("gan", bits=None, flops=None), make_record("ldm", bits=None, flops=None), reference("real")]
    folder = build_report(records, tmp_path / "out").parent
    overview, dataset = Page(folder / "index.html").text, Page(folder / "datasets" / "mnist5k.html").text
    assert "bits/dim test" not in overview and "(FLOPs)" not in overview
    assert "Left out, as no row has a value: NLL test (train) (the model defines no likelihood)." in dataset
    folder = build_report([*records, make_record("vae")], tmp_path / "out").parent
    overview = Page(folder / "index.html").text
    assert "bits/dim test" in overview and "(FLOPs)" in overview


def test_the_overview_tells_of_failures_and_shows_samples_and_what_quality_costs(built):
    _, folder = built
    page = Page(folder / "index.html")
    for words in ("No winner", "1 without a result", "≤ 1.420", "2/3, 1 diverged"):
        assert words in page.text, words
    images = [names["src"] for tag, names in page.elements if tag == "img"]
    assert sum(image.startswith("samples/") for image in images) == 8
    assert [image for image in images if image.endswith(".svg") and "-dark" not in image] == [
        "plots/mnist5k-fid-training-flops.svg", "plots/mnist5k-fid-sampling.svg",
    ]  # fmt: skip


def test_the_page_of_a_dataset_has_every_table_plot_and_failure(built):
    _, folder = built
    page = Page(folder / "datasets" / "mnist5k.html")
    assert {"quality", "likelihood", "cost", "full", "samples", "failures"} <= set(page.ids)
    assert "gan seed 2 diverged" in page.text and "How to read this table" in page.text
    drawn = {Path(link).name for link in page.links if link.startswith("../plots/")}
    plain = {
        f"mnist5k-{name}" for name, plot in plots.ALL.items() if plot.section not in ("model", "ruler", "beside")
    } - {"mnist5k-bound-over-time", "mnist5k-sampling-options"}
    assert drawn == {f"{name}{end}" for name in plain for end in (".svg", "-dark.svg", ".png")}
    assert all((folder / "plots" / name).stat().st_size > 1000 for name in drawn)


def test_the_page_of_a_model_has_its_place_learning_samples_settings_and_failures(built):
    _, folder = built
    page = Page(folder / "models" / "gan.html")
    assert {"standing", "learning", "samples", "settings", "failures"} <= set(page.ids)
    for words in ("gan seed 2 diverged", "learning_rate", "mnist5k, unconditional", "2/3", "3 runs of gan"):
        assert words in page.text, words
    assert "../plots/model-gan-learning-curves.svg" in page.links
    assert sum(link.startswith("../samples/") for link in page.links) == 2


def test_every_dataset_has_its_page_and_its_own_tables(tmp_path, without_plots):
    records = [make_record("ddpm"), make_record("vae", dataset="other", digest="c" * 64, fid=7.0)]
    folder = build_report(records, tmp_path / "out").parent
    for name, own, foreign in (("mnist5k", "ddpm", "vae"), ("other", "vae", "ddpm")):
        page = Page(folder / "datasets" / f"{name}.html")
        assert f"../models/{own}.html" in page.links and f"../models/{foreign}.html" not in page.links
        assert f"../tables/{name}-quality.csv" in page.links
        lines = (folder / "tables" / f"{name}-quality.csv").read_text().splitlines()
        assert len(lines) == 2 and f",{own}," in lines[1]
    assert len(json.loads((folder / "tables" / "quality.json").read_text())["tables"]) == 2
    assert [link for link in Page(folder / "models" / "vae.html").links if "datasets/" in link] == [
        "../datasets/mnist5k.html", "../datasets/other.html", "../datasets/other.html",
    ]  # fmt: skip


def test_cells_say_by_what_a_reader_sorts_and_which_are_no_whole_means(built):
    _, folder = built
    page = Page(folder / "index.html")
    cells = [names for tag, names in page.elements if tag == "td" and "data-value" in names]
    assert {"118.0", "1.42"} <= {names["data-value"] for names in cells}
    (lowest,) = [names for names in cells if names["data-value"] == "76.7"]
    assert "data-last" in lowest and not any("data-last" in n for n in cells if n["data-value"] == "118.0")


def test_every_number_links_to_a_protocol_with_all_its_settings(built):
    records, folder = built
    page, found = Page(folder / "datasets" / "mnist5k.html"), Page(folder / "protocols.html")
    linked = page.attribute("href", ("class", "number"))
    assert len(linked) > 100 and all(link.startswith("../protocols.html#protocol-") for link in linked)
    protocols = {key: value for record in records for key, value in record.protocols.items()}
    assert {anchor for anchor in found.ids if anchor.startswith("protocol-")} == {
        f"protocol-{i + 1}" for i in range(len(protocols))
    }
    for key, settings in protocols.items():
        assert key in found.text
        assert all(name in found.text for name in settings)
    for words in ("extractor.digest", "reference_images", "mnist-classifier-v1", "torch"):
        assert words in found.text


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
    """The elements of all pages, whatever their order."""
    return sorted(str(Page(file).shape) for file in pages(folder))


def test_no_payload_adds_an_element_or_attribute_and_each_is_shown(tmp_path, without_plots):
    plain = [f"plain{i:02}" for i in range(len(PAYLOADS))]
    benign = build_report(planted(plain, "digits"), tmp_path / "benign").parent
    folder = build_report(planted(PAYLOADS, PAYLOADS[1] + "\x1b[2J"), tmp_path / "out").parent
    assert shapes(folder) == shapes(benign)
    parsed = [Page(file) for file in pages(folder)]
    for page in parsed:
        assert "\x1b" not in page.text and "\u202e" not in page.text
        assert not any(link.startswith(("javascript:", "data:")) for link in page.links)
    for page in (Page(folder / "index.html"), Page(folder / "runs.html"), *map(Page, (folder / "datasets").iterdir())):
        assert all(printable(payload) in page.text for payload in PAYLOADS)


def test_the_description_of_a_plot_is_escaped(tmp_path, monkeypatch):
    def draw(records, looks):
        figure, (axes,) = panels_of(1, (2, 2), 1)
        axes.plot([0, 1])
        return captioned(figure, PAYLOADS[1])

    monkeypatch.setattr(plots, "ALL", {"one": plots.Plot("One", draw)})
    page = Page(build_report([make_record()], tmp_path / "out").parent / "datasets" / "mnist5k.html")
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
    page, model = Page(folder / "runs.html"), Page(folder / "models" / "ddpm.html")
    assert len(list((folder / "samples").iterdir())) == 10 and len(list((folder / "runs").iterdir())) == 12
    assert sum(link.startswith("runs/") for link in page.links) == 12
    assert sum(link.startswith("../samples/") for link in model.links) == 10
    assert "12 runs" in model.text and "(of the first 10 seeds)" in model.text


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
    assert "2 records could not be read and are left out of these pages" in Page(tmp_path / "out" / "index.html").text
    page = Page(tmp_path / "out" / "runs.html")
    assert f"{gone.name}." in page.text
    assert f"{broken.name}/record.json: not a record" in page.text
    assert f"{changed.name}/record.json: changed since" in page.text
    assert str(tmp_path) not in page.text and sum(link.startswith("runs/") for link in page.links) == len(runs) - 3
    assert not [run for run in (broken, changed, gone) if list((tmp_path / "out" / "runs").glob(f"{run.name}*"))]


def test_curves_and_pictures_that_cannot_be_read_are_told_and_all_else_is_there(genbench, tmp_path):
    records = write_runs(quick_suite(), tmp_path / "runs")
    gan, vae = (next(record.folder for record in records if record.job.model == name) for name in ("gan", "vae"))
    (gan / "progress.jsonl").write_text('{"step": 1\n{"step": 2}\n')
    (vae / "samples.npy").write_bytes(b"nothing of the kind")
    result = genbench("report", tmp_path / "runs", "-o", tmp_path / "out")
    assert result.code == 3 and f"{gan}/progress.jsonl:1" in result.err and f"{vae}/samples.npy" in result.err
    page = Page(tmp_path / "out" / "runs.html")
    assert f"{gan.name}/progress.jsonl:1" in page.text and f"{vae.name}/samples.npy" in page.text
    assert str(tmp_path) not in page.text and sum(link.startswith("runs/") for link in page.links) == len(records)
    drawn = {file.name for file in (tmp_path / "out" / "plots").iterdir()}
    assert "model-vae-learning-curves.svg" in drawn and "model-gan-learning-curves.svg" not in drawn
    assert {f"{record.job.id}.png" for record in records} - {
        file.name for file in (tmp_path / "out/samples").iterdir()
    } == {f"{vae.name}.png"}


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
from genbench.tables.formats import render
from genbench.records.record_files import load_records
from genbench.report import build_report
from genbench.tables.build import make_tables
from genbench.support.text import printable
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
    assert "gan seed 0 failed" in Page(folder / "runs.html").text and "No FID" in Page(folder / "index.html").text


def test_a_marker_that_is_broken_does_not_unlock_a_folder(tmp_path):
    (tmp_path / MARKER).write_text("{")
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(BadInput):
        build_report([make_record()], tmp_path)
    assert (tmp_path / "mine.txt").exists()
