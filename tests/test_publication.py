"""What an author adds to a report, and the code behind its runs: shown in their places, safe whatever is in it."""

import os
import zipfile
from urllib.parse import unquote, urljoin

import pytest
from finished import run_of
from page import Page
from PIL import Image
from records_factory import PAYLOADS, make_record, write_runs

from genbench import plots
from genbench.records.code import CodeStamp
from genbench.records.record_files import load_records
from genbench.report import build_report
from genbench.report.publication import publication
from genbench.support.errors import BadInput
from genbench.support.text import printable

TEXT = """# Why

One *word*, a [page](models/gan.html#code), [another](https://example.org/a?b=1&c=2), <me@example.org>.

| a | b |
|---|--:|
| 1 | 2 |

![A square](square.png)

    <script>alert(1)</script>

<img src=x onerror=alert(2)>
"""


@pytest.fixture(autouse=True)
def without_plots(monkeypatch):
    monkeypatch.setattr(plots, "ALL", {})


@pytest.fixture
def about(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "square.png")
    (tmp_path / "about.md").write_text(TEXT)
    return tmp_path / "about.md"


def written(about, text):
    about.write_text(text)
    return publication(None, [], about, [])


def test_title_authors_links_and_introduction_are_where_they_belong(genbench, about, tmp_path):
    write_runs([make_record("gan"), make_record("vae", fid=7.0)], tmp_path / "runs")
    words = ["--title", "Digits & friends", "--author", "Ada", "--author", "Bob", "--about", about]
    words += ["--link", "https://example.org/paper", "--link", "mailto:ada@example.org"]
    assert genbench("report", tmp_path / "runs", "-o", "out", *words).code == 0
    for file in (tmp_path / "out").rglob("*.html"):
        page, text = Page(file), file.read_text()
        title = text.partition("<title>")[2].partition("</title>")[0]
        assert title.endswith("Digits &amp; friends") and page.text.count("Digits & friends") == 2
        assert page.attribute("content", ("name", "author")) == ["Ada, Bob"]
        assert [tag for tag, _ in page.elements].count("h1") == 1
    page = Page(tmp_path / "out" / "index.html")
    assert {"https://example.org/paper", "mailto:ada@example.org", "https://example.org/a?b=1&c=2"} <= set(page.links)
    assert {"mailto:me@example.org", "models/gan.html#code", "about/1.png"} <= set(page.links)
    assert "Ada, Bob" in page.text and "<script>alert(1)</script>" in page.text and "onerror=alert(2)" in page.text
    assert not any("onerror" in names or "style" in names for _, names in page.elements)
    assert (tmp_path / "out" / "about" / "1.png").read_bytes() == (tmp_path / "square.png").read_bytes()
    assert genbench("report", tmp_path / "runs", "-o", "out").code == 0
    assert "Digits & friends" not in Page(tmp_path / "out" / "index.html").text
    assert not (tmp_path / "out" / "about").exists()


def test_a_single_file_has_them_inside_and_an_archive_in_its_readme_too(about, tmp_path):
    words = publication("Digits", ["Ada"], about, ["https://example.org/paper"])
    page = Page(build_report([make_record("gan")], tmp_path / "one", form="single_file", publication=words))
    assert "#models--gan--code" in page.links and "models--gan" in page.ids and "Why" in page.text
    pictures = [names["src"] for tag, names in page.elements if tag == "img" and names["alt"] == "A square"]
    assert [picture.partition(",")[0] for picture in pictures] == ["data:image/png;base64"]
    file = build_report([make_record("gan")], tmp_path / "all", form="archive", publication=words)
    with zipfile.ZipFile(file) as archive:
        readme = archive.read("all/README.md").decode()
        assert readme.startswith("# Digits\n\nAda\n\nhttps://example.org/paper\n")
        assert "all/report/about/1.png" in archive.namelist()


def test_no_payload_in_it_adds_an_element_or_attribute(about, tmp_path):
    shapes = []
    for payloads in ([f"plain{i}" for i in range(len(PAYLOADS))], PAYLOADS):
        lines = [" ".join(payload.split()) for payload in payloads]
        about.write_text("\n\n".join([*(f"# {line}" for line in lines), *(f"    {line}" for line in lines)]))
        words = publication(" ".join(lines), lines, about, [f"https://example.org/{payload}" for payload in payloads])
        page = Page(build_report([make_record("gan")], tmp_path / "out", publication=words))
        assert all(printable(line) in page.text for line in lines)
        shapes.append(sorted(str(shape) for shape in page.shape if shape[0] not in ("em", "strong", "code", "a")))
        assert not any(link.startswith("javascript:") for link in page.links)
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("url", [
    "javascript:alert(1)", "JaVaScRiPt:alert(1)", "&#106;avascript:alert(1)", "data:text/html,x", "vbscript:x",
    "file:///etc/passwd", "//example.org/x", "/root", "\\\\host\\x", "ftp://example.org", "java%0ascript:x",
])  # fmt: skip
def test_a_link_that_leads_elsewhere_is_refused_with_its_line(about, url):
    with pytest.raises(BadInput, match=r"about\.md:3: the link"):
        written(about, f"# One\n\nand [this](<{url}>)")


@pytest.mark.parametrize(
    "url", ["runs.html", "#runs", "models/gan.html", "a b.html", "HTTPS://example.org", "./x?y=a:b"]
)
def test_other_links_stay(about, url):
    assert written(about, f"[this](<{url}>)").introduction.text


@pytest.mark.parametrize(("source", "why"), [
    ("https://example.org/x.png", "asks nothing of the network"), ("//example.org/x.png", "asks nothing"),
    ("../out.png", "is not below"), ("/etc/passwd", "is not below"), ("nowhere.png", "no picture"),
    ("about.md", "no picture that a report shows"), ("drawing.svg", "save it as PNG"),
    ("data:image/png;base64,x", "no picture"), ("pipe.png", "no picture"), ("vast.png", "pixels"),
])  # fmt: skip
def test_a_picture_that_cannot_be_embedded_is_refused_with_the_reason(about, source, why):
    (about.parent / "drawing.svg").write_text("<svg/>")
    os.mkfifo(about.parent / "pipe.png")
    Image.new("1", (20_000, 20_000)).save(about.parent / "vast.png")
    (about.parent.parent / "out.png").write_bytes((about.parent / "square.png").read_bytes())
    with pytest.raises(BadInput) as refused:
        written(about, f"text\n\n![x](<{source}>)")
    assert "about.md:3" in refused.value.message and why in f"{refused.value.message} {refused.value.hint}"


@pytest.mark.parametrize(("content", "why"), [
    (None, "no such introduction file"), (b"caf\xe9", "not UTF-8 at byte 3"), (b"x" * 300_000, "more than 256 KiB"),
])  # fmt: skip
def test_a_file_that_is_no_text_is_bad_input_before_anything_is_written(genbench, tmp_path, content, why):
    write_runs([make_record("gan")], tmp_path / "runs")
    if content is not None:
        (tmp_path / "about.md").write_bytes(content)
    result = genbench("report", "runs", "-o", "out", "--about", "about.md")
    assert result.code == 2 and "about.md" in result.err and why in result.err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("words", "why"), [
    (["--title", " \t"], "--title: empty"), (["--author", ""], "--author: empty"),
    (["--link", "example.org"], "begin it with https://"), (["--link", "javascript:alert(1)"], "begin it with https://"),
])  # fmt: skip
def test_words_that_say_nothing_are_bad_input(genbench, tmp_path, words, why):
    write_runs([make_record("gan")], tmp_path / "runs")
    result = genbench("report", "runs", "-o", "out", *words)
    assert result.code == 2 and why in result.err and not (tmp_path / "out").exists()


def test_the_line_ends_of_other_systems_are_line_ends(about):
    about.write_bytes(b"# Why\r\n\r\nOne.\rTwo.\r\n")
    assert publication(None, [], about, []).introduction.text == "# Why\n\nOne.\nTwo.\n"


def test_a_byte_order_mark_is_none(about):
    assert written(about, "\ufeff# Why").introduction.text == "# Why"


def test_a_server_below_a_path_finds_all_that_the_pages_ask_for(about, tmp_path):
    """Nothing leads out of the report, and what is asked for is there by its own name."""
    records = write_runs(
        [make_record("gan"), make_record("vae", fid=7.0, dataset="other", digest="c" * 64)], tmp_path / "runs"
    )
    words = publication("Digits", ["Ada"], about, ["https://example.org/paper"])
    out = build_report(records, tmp_path / "out", publication=words).parent
    base = "https://example.org/some/path/"
    for file in out.rglob("*.html"):
        here = base + file.relative_to(out).as_posix()
        for link in Page(file).links:
            if not link.startswith(("https://example.org/a?", "https://example.org/paper", "mailto:")):
                there = urljoin(here, link)
                assert there.startswith(base) and (out / unquote(there.removeprefix(base).partition("#")[0])).is_file()
    assert (out / ".nojekyll").read_bytes() == b""


# The code behind the runs


def test_the_page_of_a_run_has_its_command_and_that_of_its_model_the_source(finished_runs, gaussian_plugin, tmp_path):
    out = build_report(load_records([finished_runs]), tmp_path / "out").parent
    name = run_of(finished_runs, "mine").name
    page = Page(out / "runs" / f"{name}.html")
    assert "genbench run -m mine -d digits --seeds 0, --budget 20steps" in page.text and name in page.text
    assert "../models/mine.html#code" in page.links and "torch" in page.text
    page = Page(out / "models" / "mine.html")
    assert "A Gaussian for every pixel" in page.text and "Own plugin" in page.text
    assert " ".join(gaussian_plugin.read_text().split()) in page.text
    assert "own plugin" in Page(out / "index.html").text
    assert f"../samples/{name}-larger.png" in Page(out / "runs" / f"{name}.html").links


def test_own_models_and_those_that_ship_are_told_apart(tmp_path):
    stamp = CodeStamp(ships=True, file="plugins/genbench_gan/__init__.py", docstring="As in the paper.")
    records = [make_record("gan").model_copy(update={"code": stamp}), make_record("old", fid=7.0)]
    out = build_report(records, tmp_path / "out").parent
    page = Page(out / "models" / "gan.html")
    for words in (
        "ships with genbench",
        "plugins/genbench_gan/__init__.py",
        "As in the paper.",
        "source other code abc123",
    ):
        assert words in page.text, words
    assert "code" not in Page(out / "models" / "old.html").ids
    assert "ships with genbench" in Page(out / "index.html").text


def test_a_training_of_seconds_says_how_many_threads_it_had(tmp_path):
    record = make_record("gan").model_copy(update={"command": ("genbench", "run", "--set", "gan.name=a b")})
    page = Page(next((build_report([record], tmp_path / "out").parent / "runs").iterdir()))
    assert "OMP_NUM_THREADS=2 genbench run --set 'gan.name=a b'" in page.text


def test_an_archive_has_the_command_of_every_run_with_the_plugin_that_it_holds(finished_runs, tmp_path):
    name = run_of(finished_runs, "mine").name
    with zipfile.ZipFile(build_report(load_records([finished_runs]), tmp_path / "all", form="archive")) as archive:
        words = archive.read("all/again.txt").decode()
        assert f"--plugin runs/{name}/source/my_model.py --out again" in words and words.count("genbench run") == 1
        assert f"all/runs/{name}/source/my_model.py" in archive.namelist()
