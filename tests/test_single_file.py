"""The report as one file: all of it inlined, nothing but it allowed to run, and no way to break out of it."""

import base64
import hashlib
import re

import pytest
from page import Page
from records_factory import PAYLOADS, make_record, planted, seeds_of, write_runs
from test_report import suite

from genbench import plots
from genbench.report import build_report
from genbench.report.build import MOST_RUNS
from genbench.support.errors import BadInput
from genbench.support.text import printable


@pytest.fixture
def without_plots(monkeypatch):
    monkeypatch.setattr(plots, "ALL", {})


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("single")
    records = write_runs(suite(), folder / "runs")
    return build_report(records, folder / "out" / "mine", form="single_file")


def test_it_is_one_small_file_with_every_page(built):
    page = Page(built)
    assert [file.name for file in built.parent.iterdir()] == ["mine.html"]
    assert built.stat().st_size < 3e6
    sections = page.attribute("id", ("class", "page"))
    assert {"index", "runs", "protocols", "published", "datasets--mnist5k", "models--gan"} <= set(sections)
    assert sum(name.startswith("runs--") for name in sections) == 10


def test_every_link_leads_to_a_part_of_it_or_is_its_own_data(built):
    page = Page(built)
    assert len(page.ids) == len(set(page.ids))
    inner = [link for link in page.links if not link.startswith("data:")]
    assert len(inner) > 100 and all(link[0] == "#" and link[1:] in page.ids for link in inner)
    assert {link.partition(";")[0] for link in page.links} - set(inner) == {
        "data:image/png", "data:image/svg+xml", "data:text/csv", "data:text/markdown", "data:application/x-tex",
    }  # fmt: skip


def test_its_script_and_style_are_those_of_the_policy_and_nothing_else_is_allowed(built):
    text = built.read_text()
    (policy,) = Page(built).attribute("content", ("http-equiv", "Content-Security-Policy"))
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy and "img-src data:;" in policy and "unsafe" not in policy


def test_its_tables_can_be_saved_as_they_are_in_a_folder(built, tmp_path, without_plots):
    (data,) = Page(built).attribute("href", ("download", "cost.csv"))
    folder = build_report(suite(), tmp_path / "out").parent
    assert base64.b64decode(data.partition(",")[2]) == (folder / "tables" / "cost.csv").read_bytes()


def test_no_payload_adds_an_element_or_attribute_and_each_is_shown(tmp_path, without_plots):
    plain = [f"plain{i:02}" for i in range(len(PAYLOADS))]
    benign, hostile = (
        Page(build_report(planted(words, words[1]), tmp_path / name, form="single_file"))
        for name, words in (("benign", plain), ("hostile", PAYLOADS))
    )
    assert sorted(map(str, benign.shape)) == sorted(map(str, hostile.shape))
    assert all(printable(payload) in hostile.text for payload in PAYLOADS)
    assert not any(link.startswith("javascript:") for link in hostile.links)


def test_of_many_runs_it_has_no_page_each_and_no_link_to_one(tmp_path, without_plots):
    records = seeds_of("ddpm", [20.0 + seed for seed in range(MOST_RUNS + 1)])
    page = Page(build_report(records, tmp_path / "out", form="single_file"))
    assert not any(link.startswith("#runs--") for link in page.links)
    assert all(record.job.id in page.text for record in records)


def test_only_an_earlier_report_is_replaced(tmp_path, without_plots):
    mine = tmp_path / "mine.html"
    mine.write_text("<p>mine")
    with pytest.raises(BadInput, match="not a report"):
        build_report([make_record("new")], mine, form="single_file")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(BadInput, match="a folder"):
        build_report([make_record("new")], tmp_path / "folder", form="single_file")
    assert mine.read_text() == "<p>mine"
    build_report([make_record("superseded")], tmp_path / "out.html", form="single_file")
    again = build_report([make_record("new")], tmp_path / "out.html", form="single_file")
    assert again == tmp_path / "out.html" and "new" in Page(again).text and "superseded" not in Page(again).text


def test_the_command_writes_it_and_says_where(genbench, tmp_path, without_plots):
    write_runs([make_record("ddpm")], tmp_path / "runs")
    result = genbench("report", tmp_path / "runs", "-o", tmp_path / "mail", "--single-file")
    assert result.code == 0 and result.out.strip() == str(tmp_path / "mail.html")
    assert (tmp_path / "mail.html").is_file()
