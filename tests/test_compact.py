"""Tables in short: a line per row that fits a terminal or a page, by which metric, the winner, and what misleads."""

import json
import sys

import pytest
from records_factory import (
    DIGEST,
    full,
    make_record,
    make_ruler,
    quick_suite,
    reference,
    ruled,
    seeds_of,
    values_of,
    with_errors,
    write_runs,
)

from genbench.support.text import spelled
from genbench.tables.build import make_tables
from genbench.tables.chosen import chosen_layout
from genbench.tables.compact import shortened_names
from genbench.tables.formats import render, render_compact
from genbench.tables.wording import width

BLIND = "uniform noise scores 0.74, held-out real images 0.66"


def short(records, room=80, layout="full", format="text"):
    return render_compact(make_tables(records, layout), format, room).replace("\xa0", " ")


def flat(text):
    return " ".join(text.split())


def lines_of(text, *names):
    """The line of each row, by the name in it."""
    return [next(line for line in text.splitlines() if name in line.split()) for name in names]


@pytest.mark.parametrize(("room", "seen", "unseen"), [
    (40, ("FID test ↓",), ("bits/dim", "FLOPs")),
    (80, ("FID test ↓", "bits/dim ↓", "FLOPs", "samples/s"), ("recall",)),
    (120, ("FID test ↓", "bits/dim ↓", "FLOPs", "samples/s", "recall ↑"), ("peak memory",)),
])  # fmt: skip
def test_a_line_a_row_and_more_columns_the_wider_it_is(room, seen, unseen):
    text = short(quick_suite(), room)
    assert max(map(width, text.splitlines())) <= room
    head = text.partition("real")[0]
    assert all(word in head for word in seen) and not any(word in head for word in unseen)
    names = ("real", "gan", "ddpm", "ldm", "vae", "flow", "gaussian", "noise")
    assert [text.splitlines().index(line) for line in lines_of(text, *names)] == sorted(
        text.splitlines().index(line) for line in lines_of(text, *names)
    ), "the best first"
    assert lines_of(text, "gan")[0].split()[:3] == ["1", "gan", "83.40*"]
    assert "gan has the lowest FID test, 83.40; ddpm, 118.0, is next: 1.41 times as high." in flat(text)
    assert "One seed per model" in flat(text) and "#: rank by FID test" in flat(text)


def heads(text):
    """The headings of the columns, of the first table."""
    lines = text.splitlines()
    first, second = [i for i, line in enumerate(lines) if line.startswith("─")][:2]
    return flat(" ".join(lines[first + 1 : second]))


def test_the_cost_that_the_budget_leaves_open_comes_in():
    assert heads(short(quick_suite(), 60)) == "# model FID test ↓ bits/dim ↓ training FLOPs"
    stepped = [make_record(name, fid=fid) for name, fid in (("a", 1.0), ("b", 2.0))]
    for record in stepped:
        record.job.budget = type(record.job.budget)(unit="steps", amount=600)
    text = short(stepped, 56)
    assert "600 steps of training" in flat(text)
    assert heads(text) == "# model FID test ↓ bits/dim ↓ training seconds"


def test_a_blind_ruler_names_no_winner():
    text = short(ruled(quick_suite(), make_ruler({"fid_test": BLIND})))
    assert "FID test †" in text and "KID test ↓" in text
    assert "gan has the lowest KID test" in flat(text) and "lowest FID" not in text
    assert "#: rank by KID test" in flat(text)
    assert f"† FID test (mnist-classifier-v1) is not ranked: {BLIND}." in flat(text)
    nothing = short(ruled(quick_suite(), make_ruler(dict.fromkeys(("fid_test", "kid_test", "two_sample"), BLIND))))
    assert "No winner. No metric of these features" in flat(nothing)
    assert lines_of(nothing, "gan")[0].split()[0] == "gan", "no rank stands before it"


def test_failures_few_seeds_and_other_budgets_are_said():
    records = [*seeds_of("gan", [70.0, None]), *seeds_of("vae", [90.0, 91.0]), make_record("flow", status="failed")]
    records.append(make_record("ddpm", fid=80.0))
    records[-1].job.budget = type(records[-1].job.budget)(unit="steps", amount=9)
    text = short(records)
    assert lines_of(text, "flow")[0].split()[:3] == ["flow", "0/1", "failed"]
    assert "1/2" in lines_of(text, "gan")[0]
    said = flat(text)
    assert "vae has the lowest FID test" in said, "the mean of gan skips its failure"
    assert "gan: 1 of 2 seeds finished; seed 1 diverged: RuntimeError: the loss is not finite." in said
    assert "Training budgets differ: 60 seconds; 9 steps." in said
    assert "ddpm and flow were not run with seed 1" in said


def test_models_of_one_lack_of_seeds_are_told_of_in_one_sentence():
    records = [*seeds_of("gan", [70.0, 71.0]), make_record("a"), make_record("b")]
    assert "a and b were not run with seed 1, which others of their block were: they are" in flat(short(records))


def test_without_any_fid_the_likelihood_ranks_bounds_apart_from_exact_values():
    kinds = [("flow", 3.0, "exact"), ("pixels", 2.5, "exact"), ("vae", 2.9, "bound"), ("ddpm", 2.8, "bound")]
    records = [make_record(name, values={"psnr": 1.0}, bits=bits, kind=kind) for name, bits, kind in kinds]
    for record in records[:2]:
        for measurement in record.measurements:
            measurement.discrete = True
    text = flat(short(records))
    assert "pixels has the lowest NLL test of the exact values, 2.500" in text
    assert "ddpm has the lowest NLL test of the bounds, ≤ 2.800" in text
    assert "#: rank by NLL test" in text and "FID" not in text


def test_datasets_blocks_and_extractors_have_their_own_winners():
    records = [
        make_record("a", fid=1.0), make_record("b", fid=2.0), make_record("a", fid=9.0, conditional=True),
        make_record("b", fid=8.0, conditional=True), reference("real"),
        make_record("c", fid=3.0, dataset="other", digest=DIGEST[::-1]),
    ]  # fmt: skip
    text = flat(short(records))
    assert "Unconditional: a has the lowest FID test" in text and "Conditional: b has the lowest FID test" in text
    assert "other, unconditional: 1,000 samples" in text and "c has no rival; its FID test is 3.00." in text


def test_runs_under_way_and_tuned_ones_are_told_apart():
    under_way = make_record("ddpm", status="failed").model_copy(update={"status": "running", "error": None})
    text = short([make_record("gan"), under_way])
    assert lines_of(text, "ddpm")[0].split()[:2] == ["ddpm", "running"]
    tuned = make_record("gan")
    tuned.dataset = tuned.dataset.model_copy(update={"tuning": True})
    assert "held-out ↓" in heads(short([tuned])) and "Tuning split" in short([tuned])


def test_samples_made_elsewhere_have_no_cost():
    theirs = make_record("theirs", fid=50.0, bits=None)
    theirs.cost, theirs.job.budget = type(theirs.cost)(), type(theirs.job.budget)()
    line = lines_of(short([theirs, make_record("vae")]), "theirs")[0].split()
    assert line[:6] == ["1", "theirs", "50.00*", "–", "–", "–"]


def test_thirty_rows_with_long_names_stay_different_lines():
    records = [make_record(f"{'long' * 15}-{i}", fid=20.0 + i) for i in range(30)]
    text = short(records)
    rows = [line for line in text.splitlines() if "…" in line and " 1.410" in line]
    assert len({line.split()[1] for line in rows}) == 30 and max(map(len, rows)) <= 80
    assert "bits/dim" in text and "FLOPs" in text, "names give way to the first columns"


def test_names_are_cut_where_they_stay_different():
    assert shortened_names(["ddpm (steps=100)", "ddpm (steps=250)"], 12) == ["ddpm (…=100)", "ddpm (…=250)"]
    assert len(set(shortened_names([f"a{'x' * 30}{i}{'y' * 30}" for i in range(9)], 12))) == 9
    assert shortened_names(["short"], 12) == ["short"]


# Columns by name


NAMES = "nll,recall,fid,params,kid"
KEYS = ["bits_per_dim_test", "recall:mnist-classifier-v1", "fid_test:mnist-classifier-v1", "parameters",
        "kid_test:mnist-classifier-v1"]  # fmt: skip


@pytest.mark.parametrize("format", ["text", "markdown", "latex", "csv", "json"])
def test_columns_are_those_named_in_the_order_of_the_names(genbench, tmp_path, format):
    write_runs(quick_suite(), tmp_path / "runs")
    out = genbench("table", "runs", "--columns", NAMES, "--format", format).out
    if format == "json":
        assert [column["keys"] for column in json.loads(out)["tables"][0]["columns"]] == [[key] for key in KEYS]
        assert json.loads(out)["tables"][0]["rows"][0]["cells"].keys() == set(KEYS)
    elif format == "csv":
        assert [head for head in out.splitlines()[0].split(",") if head in KEYS] == KEYS
        assert "peak_bytes" not in out
    else:
        found = [out.find(word) for word in ("NLL", "recall", "FID", "parameters", "KID")]
        assert found == sorted(found) and min(found) > 0 and "samples/s" not in out


@pytest.mark.parametrize(("words", "told"), [
    (["--columns", "fdi"], ("'fdi'", "did you mean 'fid'", "fid_test")),
    (["--columns", "fid,,nll"], ("empty name",)),
    (["--columns", "fid_test:inception"], ("fid_test:inception", "fid_test:mnist-classifier-v1")),
    (["--compact", "--full"], ("--compact", "--full")),
    (["--compact", "--format", "csv"], ("--compact", "latex")),
])  # fmt: skip
def test_what_is_no_column_is_refused(genbench, tmp_path, words, told):
    write_runs([make_record("gan")], tmp_path / "runs")
    result = genbench("table", "runs", *words)
    assert (result.code, result.out) == (2, "") and all(word in result.err for word in told), result.err


def test_a_metric_that_was_not_measured_is_a_column_of_dashes():
    records = [make_record("gan")]
    (table,) = make_tables(records, chosen_layout(["coverage", "fid"], records))
    assert [column.metric for column in table.columns] == ["coverage", "fid_test"]
    assert "not measured" in render([table], "text")


# On a terminal and elsewhere


@pytest.fixture
def terminal(monkeypatch):
    """Stdout looks like a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    return lambda: monkeypatch.setattr(sys.stdout, "isatty", lambda: True)


def test_short_on_a_terminal_whole_elsewhere(genbench, tmp_path, terminal):
    records = write_runs(quick_suite(), tmp_path / "runs")
    whole = render(make_tables(records), "text")
    assert genbench("table", "runs").out == genbench("table", "runs", "--format", "text").out == f"{whole}\n"
    piped = genbench("table", "runs", "--compact").out
    terminal()
    seen = genbench("table", "runs").out
    assert seen.startswith(piped.rstrip("\n")) and "genbench table runs --full" in seen
    assert max(map(width, seen.splitlines())) <= 80
    entire = genbench("table", "runs", "--full").out
    assert "[low, high] is" in flat(render(make_tables(map(with_errors, records)), "text"))
    assert max(map(width, entire.splitlines())) <= 80 and "A uniform model scores 8" in flat(entire)
    assert genbench("table", "runs", "--format", "markdown").out == render(make_tables(records), "markdown") + "\n"
    every = genbench("table", "runs", "--columns", "fid,kid,is,recall,precision,nll,params,seconds,flops").out
    assert max(map(width, every.splitlines())) <= 80 and "FLOPs" in every, "all that were asked for, in pieces"


def test_the_end_of_a_run_and_of_an_evaluation_too(genbench, runs, samples, terminal):
    words = ("evaluate", samples, "-d", "digits", "--name", "theirs", "--out", runs)
    terminal()
    short_out, full_out = genbench(*words).out, genbench(*words, "--full").out
    assert len(lines_of(short_out, "theirs", "real", "noise")) == 3 and "digest" not in short_out
    assert "winner" in flat(short_out) or "theirs has no rival" in flat(short_out)
    assert f"genbench table {runs} --full" in short_out.replace("\n", " ")
    assert "digest" in full_out and "95 % interval" in flat(full_out)


def test_streams_without_our_signs_get_plain_ones_in_as_much_room():
    text = short([*seeds_of("gan", [70.0, 71.0]), make_record("vae", fid=60.0), reference("real")])
    plain = spelled(text, "ascii")
    assert plain.isascii() and "\\" not in plain
    sizes = [[len(line) for line in some.splitlines()[:8]] for some in (text, plain)]
    assert sizes[0] == sizes[1], "title, rules, heading and rows"
    assert spelled(text, "utf-8") == text


# Pages


def cmr(text, bold):
    """The width, in points, of a text in 9-point Computer Modern; bold digits are 15 % wider."""
    from matplotlib import font_manager, get_data_path
    from matplotlib.ft2font import FT2Font

    assert font_manager
    font = FT2Font(f"{get_data_path()}/fonts/ttf/cmr10.ttf")
    font.set_size(9.25, 72)
    font.set_text(text, 0.0)
    return font.get_width_height()[0] / 64 * (1.15 if bold else 1.0)


def latex_width(table):
    """The width of a table's columns and of what stands between them, in points."""
    plain = {r"$\leq$": "=", r"$\pm$": "+", "$-$": "+", r"$\downarrow$": "n", r"$\uparrow$": "n", "--": "n", "~": " "}

    def points(cell):
        words = cell.strip().removesuffix(r"\\").strip()
        for sign, letter in plain.items():
            words = words.replace(sign, letter)
        parts = words.removeprefix(r"\shortstack[r]{").split(r"\\{}")
        bare = [part.replace(r"\textbf{", "").replace(r"\textit{", "").replace("}", "") for part in parts]
        return max(cmr(part.replace("\\", ""), r"\textbf" in words) for part in bare if part) if words else 0.0

    body = table.split(r"\toprule")[1].split(r"\bottomrule")[0]
    rows = [line.split(" & ") for line in body.splitlines() if " & " in line]
    return sum(max(points(row[i]) for row in rows) for i in range(len(rows[0]))) + 8 * (len(rows[0]) - 1)


def test_compact_latex_fits_a_page_and_has_minus_signs():
    records = [with_errors(record) for record in quick_suite()]
    records.append(make_record("x_1 & --y", values=values_of(50.0) | {"kid_test": -0.0712}))
    for tables in (full(records), make_tables(records, chosen_layout(["kid", "fid"], records))):
        text = render_compact(tables, "latex")
        assert latex_width(text) <= 345
        assert r"\setlength{\tabcolsep}{4pt}" in text and r"\small" in text
        assert r"x\_1 \& -{}-y" in text, "two hyphens are no dash"
        bare = text.replace(r"\{", "").replace(r"\}", "")
        assert bare.count("{") == bare.count("}") and bare.replace(r"\$", "").count("$") % 2 == 0
    assert r"$-$0.0712" in text and "-0.0712" not in text.replace("$-$", "")
    assert "$-$0.0712" in render(make_tables(records, "full"), "latex"), "in whole tables as well"
    wide = render(full(records), "latex")
    assert latex_width(wide.replace(r"\shortstack{", r"\shortstack[r]{")) > 345, "the whole table does not fit"
