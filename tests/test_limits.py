"""The likelihood table: limit, exact, bound, gap, ELBO and parts; and values that cannot be."""

import csv
import io

import pytest
from records_factory import (
    make_record,
    quick_suite,
    reference,
    seeds_of,
    with_elbo,
    with_entropy,
    with_parts,
    write_runs,
)

from genbench.report import build_report
from genbench.tables.build import make_tables
from genbench.tables.limits import GAP, LIMIT, PARTS, TEST, TRAIN


def known(bits=1.40, error=0.005):
    """Models on images of known entropy: a flow, a DDPM with its terms, a VAE with its ELBO, a GAN, a diverged one."""
    records = [
        make_record("flow", bits=1.43, kind="exact"),
        with_parts(make_record("ddpm", bits=1.45), L_T=0.001, L_t=1.3, L_0=0.149),
        with_elbo(make_record("vae", bits=1.62), 1.66),
        make_record("gan", bits=None),
        make_record("new", status="diverged"),
        reference("real"),
    ]
    return [with_entropy(record, bits, error) for record in records]


def cells_of(records, layout="likelihood"):
    (table,) = make_tables(records, layout)
    return {row.name: row.cells for row in table.rows}


def test_limit_value_kind_gap_elbo_and_parts_stand_side_by_side(genbench, tmp_path):
    write_runs(known(), tmp_path / "runs")
    out = genbench("table", "runs", "--layout", "likelihood").out
    for words in (
        "1.400 ± 0.005", "≤ 1.430 ± 0.004 se* (≤ 1.410 ± 0.004 se)", "exact", "bound", "≤ 0.030 ± 0.004 se",
        "≤ 1.660 ± 0.004 se", "L_T 0.001 + L_t 1.300 + L_0 0.149", "by Monte Carlo over the mixture", "1 diverged",
        "the model defines no likelihood",
    ):  # fmt: skip
        assert words in out, words
    assert "impossible" not in out
    assert max(map(len, out.splitlines())) <= 118
    assert "real" not in out, "no model stands behind it"


@pytest.mark.parametrize("format", ["markdown", "latex", "csv", "json"])
def test_every_format_has_limit_gap_and_parts(genbench, tmp_path, format):
    write_runs(known(), tmp_path / "runs")
    result = genbench("table", "runs", "--layout", "likelihood", "--format", format)
    assert result.code == 0
    if format == "json":
        (table,) = result.json["tables"]
        rows = {row["name"]: row["cells"] for row in table["rows"]}
        assert rows["ddpm"][str(TEST)]["parts"] == {"L_T": 0.001, "L_t": 1.3, "L_0": 0.149}
        assert rows["flow"]["likelihood_kind"]["text"] == "exact"
        assert rows["flow"]["limit_gap"]["value"] == pytest.approx(0.03)
        assert rows["gan"]["limit_gap"]["value"] is None
    elif format == "csv":
        lines = {line["model"]: line for line in csv.DictReader(io.StringIO(result.out))}
        assert float(lines["ddpm"][f"{TEST}.parts.L_t"]) == 1.3
        assert (lines["vae"]["likelihood_kind"], lines["vae"]["limit"]) == ("bound", "1.4")
        assert float(lines["flow"]["limit_gap"]) == pytest.approx(0.03)
    else:
        assert "0.030" in result.out and "1.400" in result.out


def test_the_gaps_interval_includes_the_limits_error():
    cell = cells_of(known())["flow"][GAP]
    half = 1.959964 * 0.004
    assert cell.interval == pytest.approx((0.03 - half - 0.005, 0.03 + half + 0.005), abs=1e-6)


def test_parts_over_seeds_are_means_and_add_up_to_the_value():
    records = [
        with_parts(make_record("ddpm", seed, bits=bits), L_t=bits - 0.2, L_0=0.2)
        for seed, bits in enumerate((1.4, 1.6))
    ]
    cell = cells_of(records)["ddpm"][TEST]
    assert cell.parts == pytest.approx({"L_t": 1.3, "L_0": 0.2})
    assert sum(cell.parts.values()) == pytest.approx(cell.value)


def test_the_parts_of_an_elbo_are_said_to_be_its():
    record = with_elbo(make_record("vae", bits=1.62), 1.66)
    record.measurements[-1] = record.measurements[-1].model_copy(update={"parts": {"KL": 0.46, "rest": 1.2}})
    assert cells_of([record])["vae"][PARTS].printed == "ELBO: KL 0.460 + rest 1.200"


# What cannot be


@pytest.mark.parametrize("layout", ["likelihood", "quality", "full"])
def test_a_value_below_the_limit_is_flagged_and_not_ranked(layout):
    records = [*known(), with_entropy(make_record("liar", bits=1.30))]
    cells = cells_of(records, layout)
    assert "impossible" in cells["liar"][TEST].flag
    assert cells["liar"][TEST].rank is None
    assert cells["flow"][TEST].rank == 1
    assert not cells["flow"][TEST].flag


def test_the_flag_is_a_footnote_in_every_layout_that_shows_the_value(genbench, tmp_path):
    write_runs([*known(), with_entropy(make_record("liar", bits=1.30))], tmp_path / "runs")
    for layout in ("likelihood", "quality"):
        for format in ("text", "markdown", "latex", "csv", "json"):
            out = genbench("table", "runs", "--layout", layout, "--format", format).out
            assert "impossible, and not ranked" in out, (layout, format)
    assert "impossible" not in genbench("table", "runs", "--layout", "cost").out


@pytest.mark.parametrize(
    ("bits", "error", "impossible"),
    [(1.399, 0.0, False), (1.393, 0.0, False), (1.391, 0.0, True), (1.391, 0.005, False), (1.38, 0.005, True)],
)
def test_a_value_below_the_limit_by_less_than_its_error_is_not(bits, error, impossible):
    records = [with_entropy(make_record("flow", bits=bits, kind="exact"), 1.4, error)]
    assert bool(cells_of(records)["flow"][TEST].flag) == impossible


@pytest.mark.parametrize(("bits", "flagged"), [(-0.5, {TEST, TRAIN}), (0.01, {TRAIN}), (0.013, set())])
def test_without_a_known_entropy_nothing_is_below_zero_by_more_than_its_error(bits, flagged):
    """The records' training images cost 0.02 less; the standard error is 0.004."""
    records = [make_record("liar", bits=bits), make_record("flow", bits=3.0), make_record("vae", bits=4.0)]
    cells = cells_of(records, "quality")
    assert {key for key, cell in cells["liar"].items() if cell.flag} == flagged
    assert cells["flow"][TEST].rank == (1 if TEST in flagged else 2) and not cells["flow"][TEST].flag


def test_seeds_do_not_shrink_the_error_of_the_images_that_they_share():
    records = [with_entropy(make_record("flow", seed, bits=1.393), 1.4, 0.0) for seed in range(8)]
    assert not cells_of(records)["flow"][TEST].flag


def test_on_training_images_a_model_may_be_below_the_limit():
    cells = cells_of([with_entropy(make_record("flow", bits=1.41), 1.4, 0.0)])["flow"]
    assert cells[TRAIN].value < 1.40
    assert not cells[TRAIN].flag


# Without a limit


def test_without_a_known_entropy_there_is_no_limit_and_no_gap(genbench, tmp_path):
    write_runs(quick_suite(), tmp_path / "runs")
    (table,) = genbench("table", "runs", "--layout", "likelihood", "--format", "json").json["tables"]
    assert [column["heading"] for column in table["columns"]] == ["NLL test (train)", "kind"]
    assert any("entropy of mnist5k is not known" in note for note in table["footnotes"])
    assert [row["name"] for row in table["rows"]][:2] == ["ddpm", "vae"]


def test_a_model_with_a_diverged_seed_is_counted_here_too():
    cells = cells_of([*seeds_of("a", [1.0, 1.0, None], bits=1.1), *seeds_of("b", [2.0, 2.0, 2.0], bits=1.9)])
    assert {name: (cell[TEST].rank, cell[TEST].n_ok, cell[TEST].n) for name, cell in cells.items()} == {
        "b": (1, 3, 3), "a": (2, 2, 3),
    }  # fmt: skip


# On the page


def test_the_page_shows_likelihoods_where_there_are_any(tmp_path, monkeypatch):
    monkeypatch.setattr("genbench.plots.ALL", {})
    folder = build_report([*known(), with_entropy(make_record("liar", bits=1.30))], tmp_path / "with").parent
    page = (folder / "datasets" / "mnist5k.html").read_text()
    for words in (
        'id="likelihood"',
        "gap to the limit",
        "impossible, and not ranked",
        "L_T 0.001",
        "[1.422, 1.438] #1",
    ):
        assert words in page
    assert (folder / "tables" / "likelihood.csv").is_file()
    without = build_report([make_record("gan", bits=None)], tmp_path / "without").parent
    assert 'id="likelihood"' not in (without / "datasets" / "mnist5k.html").read_text()
    assert not (without / "tables" / "likelihood.csv").exists()


def test_each_row_has_the_limit_of_what_it_was_given():
    """A model that is given more may cost less than the images do, and is not doubted for it."""
    free, told = with_entropy(make_record("flow", bits=1.45), 1.40, 0.01), make_record("vae", bits=1.35)
    told = with_entropy(told, 1.30, 0.001)
    cells = cells_of([free, told, make_record("gan", bits=1.36)])
    assert (cells["flow"][LIMIT].value, cells["vae"][LIMIT].value, cells["gan"][LIMIT].value) == (1.40, 1.30, None)
    assert not any(row[TEST].flag for row in cells.values())
