"""A report as an archive: whole, verified, without weights, the same bytes again, never over what is not ours."""

import subprocess
import sys
import zipfile

import pytest

from genbench.commands.verify import verify_runs
from genbench.records.record_files import load_records
from genbench.report import build_report
from genbench.support.errors import BadInput


def archived(runs, out):
    return build_report(load_records([runs]), out, form="archive")


def test_what_comes_out_of_it_is_whole_and_can_be_reported_again(runs, tmp_path):
    file = archived(runs, tmp_path / "supplement")
    assert file == tmp_path / "supplement.zip"
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "out")
    assert {name.partition("/")[0] for name in names} == {"supplement"} and len(names) == len(set(names))
    assert not [name for name in names if name.endswith((".safetensors", ".lock", "manifest.json"))]
    unpacked = tmp_path / "out" / "supplement"
    verdicts = [verdict for verdict in verify_runs([unpacked / "runs"]) if verdict.kind == "run"]
    assert len(verdicts) == len(load_records([runs])) and {verdict.state for verdict in verdicts} == {"ok"}
    assert (unpacked / "report" / "index.html").is_file() and "digits" in (unpacked / "README.md").read_text()
    again = build_report(load_records([unpacked / "runs"]), tmp_path / "again")
    assert again.read_bytes() == (unpacked / "report" / "index.html").read_bytes()


def test_the_same_runs_give_the_same_bytes(runs, tmp_path):
    first = archived(runs, tmp_path / "one.zip").read_bytes()
    assert archived(runs, tmp_path / "one.zip").read_bytes() == first


def test_what_is_not_ours_is_not_replaced(runs, tmp_path):
    mine = tmp_path / "mine.zip"
    for content in (b"words", None):
        if content is None:
            with zipfile.ZipFile(mine, "w") as archive:
                archive.writestr("thesis.txt", "words")
        else:
            mine.write_bytes(content)
        before = mine.read_bytes()
        with pytest.raises(BadInput, match="not an archive of a report"):
            archived(runs, mine)
        assert mine.read_bytes() == before
    (tmp_path / "folder.zip").mkdir()
    with pytest.raises(BadInput, match="a folder"):
        archived(runs, tmp_path / "folder.zip")


def test_a_run_that_leads_elsewhere_is_not_packed(runs, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("words")
    folder = next(runs.glob("mine-*"))
    (folder / "traceback.txt").symlink_to(secret)
    done = subprocess.run(
        [sys.executable, "-m", "genbench", "report", str(runs), "-o", str(tmp_path / "a.zip"), "--archive"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 3 and "traceback.txt" in done.stderr and not (tmp_path / "a.zip").exists()
