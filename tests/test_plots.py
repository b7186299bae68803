"""Plots: what they compare, what they say is missing, names that break matplotlib, and bytes that repeat."""

import json
import subprocess
import sys
from itertools import combinations, pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from records_factory import full, make_record, quick_suite, reference, seeds_of, with_curve, with_entropy, write_runs

from genbench import plots
from genbench.plots.cost import pareto
from genbench.plots.learning import MOST_LOSSES
from genbench.plots.panels import MOST_BARS, of_label
from genbench.plots.sheets import first_samples, sheet
from genbench.plots.style import COLOURS, MARKERS, MOST_PANELS, captioned, looks_of, panels_of, save, svg, tick
from genbench.records.code import CodeStamp
from genbench.records.record import Entropy
from genbench.support.errors import CorruptData

AWKWARD = ["_hidden", "$\\frac{$", "$^$", "<b>&", "a_b"]


def words(figure):
    """All text of a figure as its SVG has it."""
    root = ElementTree.fromstring(svg(figure).split("?>", 1)[1])
    return ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    records = [*quick_suite(), make_record("gan", 1, fid=70.0), make_record("gan", 2, status="diverged")]
    return write_runs(records, tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize(
    "name", sorted(set(plots.ALL) - {"ruler", "ranks", "fid-compute", "fid-throughput", "sampling-options"})
)
def test_every_plot_repeats_to_the_byte_and_names_the_run_that_diverged(suite, name):
    draw = plots.ALL[name].draw
    tables = full(suite)
    looks = plots.palette(tables)
    first, second = draw(tables, looks), draw(tables, looks)
    assert svg(first) == svg(second)
    assert "gan" in first.get_label()
    assert "diverged" in first.get_label()
    assert any("Not drawn" in text for text in words(first))


def test_svg_bytes_do_not_depend_on_the_process(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from records_factory import full, quick_suite;"
        "from genbench import plots; from genbench.plots.style import svg;"
        "sys.stdout.write(svg(plots.fid_against_sampling(full(quick_suite()))))"
    )
    command = [sys.executable, "-c", code, str(__file__).rsplit("/", 1)[0]]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == svg(
        plots.fid_against_sampling(full(quick_suite()))
    )


def test_awkward_names_are_drawn_verbatim(tmp_path):
    records = [make_record(f"run{i}") for i in range(len(AWKWARD))]
    records = [r.model_copy(update={"job": r.job.model_copy(update={"label": n})}) for r, n in zip(records, AWKWARD)]
    shown = " ".join(words(plots.fid_against_training(full(records))))
    assert all(name in shown for name in AWKWARD)
    bars = words(plots.likelihoods(full(records)))
    assert all(name in bars for name in AWKWARD)


def test_every_model_keeps_one_colour():
    records = quick_suite()
    looks = plots.palette(full(records))
    assert set(looks) == {"ddpm", "ldm", "gan", "vae", "flow", "gaussian"}
    assert len({colour for colour, _ in looks.values()}) == 6
    bars, points = svg(plots.likelihoods(full(records), looks)), svg(plots.fid_against_sampling(full(records), looks))
    for name, (colour, _) in looks.items():
        assert (colour in bars) == (name not in ("ldm", "gan"))
        assert colour in points


def test_looks_stay_distinct_beyond_the_colours():
    looks = looks_of(f"m{i}" for i in range(72))
    assert len(set(looks.values())) == 72
    assert {colour for colour, _ in looks.values()} == set(COLOURS)


EYES = {
    "all cones": np.eye(3),
    "protanopia": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "deuteranopia": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "tritanopia": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
}
"""What becomes of linear RGB (Machado, Oliveira & Fernandes 2009, severity 1)."""
TO_XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]


def lab(colour, eyes):
    """CIELAB (D65) of a hexadecimal sRGB colour as it is seen."""
    levels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.array(EYES[eyes]) @ linear, 0, 1) / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", EYES)
def test_of_two_dozen_models_those_of_one_marker_differ_to_every_eye(eyes):
    """By more than 15 in CIELAB; 2.3 can just be noticed."""
    looks = looks_of(f"m{i}" for i in range(24)).values()
    alike = [(a, b) for (a, one), (b, other) in combinations(looks, 2) if one == other]
    assert alike and all(np.linalg.norm(lab(a, eyes) - lab(b, eyes)) > 15 for a, b in alike)
    assert np.linalg.norm(lab("#ffffff", "all cones") - lab("#000000", "all cones")) == pytest.approx(100, abs=0.1)


def test_a_legend_of_nineteen_models_has_the_marks_that_are_drawn():
    records = [make_record(f"m{i}", fid=40.0 + i) for i in range(19)]
    figure = plots.fid_against_training(full(records))
    (axes,) = figure.axes
    marks = {round(float(y)): (line.get_color(), line.get_marker()) for line in axes.lines for y in line.get_ydata()}
    legend = axes.get_legend()
    told = {text.get_text(): (h.get_color(), h.get_marker()) for h, text in zip(legend.legend_handles, legend.texts)}
    named = {f"m{i}  {40 + i}.00": marks[40 + i] for i in range(19)}
    assert named.items() <= told.items() and len(set(named.values())) == 19


SHIPPED = ("ddpm", "flow", "gan", "gaussian", "ldm", "vae")


def test_a_model_that_ships_looks_the_same_whatever_it_stands_beside():
    assert looks_of(SHIPPED) == dict(zip(SHIPPED, zip(COLOURS, MARKERS))), "as in every report before"
    assert all(looks_of([name]) == {name: look} for name, look in looks_of(SHIPPED).items())
    stamp = CodeStamp(ships=True, file="plugins/genbench_gan/__init__.py")
    others = [make_record(f"own{i}", bits=None) for i in range(12)]
    shipped = [make_record(name).model_copy(update={"code": stamp}) for name in SHIPPED]
    for some in (shipped, shipped[:1], shipped[3:4]):
        found = plots.palette(full([*others, *some]))
        assert all(found[record.job.label] == looks_of(SHIPPED)[record.job.label] for record in some)


def test_another_model_changes_a_look_only_if_it_comes_before_and_wants_the_same_colour():
    names = [f"m{i}" for i in range(7)]
    together, alone = looks_of(names), {name: looks_of([name])[name] for name in names}
    assert len({colour for colour, _ in together.values()}) == 7
    assert {colour for colour, _ in alone.values()} <= {colour for colour, _ in together.values()}
    for i in range(20):
        beside = looks_of([*names, f"new{i}"])
        changed = [name for name in names if beside[name] != together[name]]
        assert not changed or beside[f"new{i}"][0] in {together[name][0] for name in changed}
    assert looks_of(reversed(names)) == together


def test_a_row_named_by_its_settings_has_the_colour_of_its_label():
    assert looks_of(["gan (budget=60 seconds)"])["gan (budget=60 seconds)"] == looks_of(["gan"])["gan"]
    both = looks_of(["gan (steps=5)", "gan (steps=50)"])
    assert looks_of(["gan"])["gan"] in both.values() and len({colour for colour, _ in both.values()}) == 2


def test_two_models_with_one_favourite_colour_differ_in_colour_and_the_first_keeps_its_own():
    names = [f"m{i}" for i in range(9)]
    alone = {name: looks_of([name])[name] for name in names}
    first, second = next((a, b) for a in names for b in names if a < b and alone[a] == alone[b])
    both = looks_of([second, first])
    assert both == looks_of([first, second]) and both[first][0] != both[second][0]
    assert (both[first] == alone[first]) + (both[second] == alone[second]) == 1


def test_conditional_models_have_a_panel_of_their_own():
    records = [make_record("ddpm"), make_record("gan"), make_record("ddpm", conditional=True, fid=5.0)]
    shown = plots.panels(full(records), "fid_test")
    assert [(panel.title, len(panel.rows)) for panel in shown] == [
        ("mnist5k, conditional", 1), ("mnist5k, unconditional", 2),
    ]  # fmt: skip
    assert len(plots.fid_against_training(full(records)).axes) == 2


def test_two_protocols_never_share_a_panel():
    records = [make_record("ddpm"), make_record("gan", protocol={"samples": 2000})]
    assert [[row.name for row in panel.rows] for panel in plots.panels(full(records), "fid_test")] == [
        ["ddpm"],
        ["gan"],
    ]


def test_points_are_at_cost_and_value_and_reference_rows_are_lines():
    figure = plots.fid_against_training(full([make_record("ddpm", fid=100.0, flops=2e14), reference("real")]), "flops")
    (axes,) = figure.axes
    point, line = axes.lines
    assert (list(point.get_xdata()), list(point.get_ydata())) == ([2e14], [100.0])
    assert line.get_ydata()[0] == 20.9


@pytest.mark.parametrize("flops", [None, 0.0])
def test_a_model_without_flops_is_named_and_not_drawn(flops):
    figure = plots.fid_against_training(full([make_record("ddpm"), make_record("odd", flops=flops)]), "flops")
    assert "odd (no such cost counted)" in figure.get_label()
    assert not any(text.startswith("odd  ") for text in words(figure))


def test_likelihood_bars_have_the_values_and_bounds_are_marked():
    figure = plots.likelihoods(full(quick_suite()))
    widths = {round(bar.get_width(), 3) for bar in figure.axes[0].patches}
    assert {1.42, 1.40, 1.53, 1.91, 4.4} <= widths
    assert "≤ 1.420 ± 0.004 se" in words(figure)
    assert "ldm (the model defines no likelihood)" in figure.get_label()


def test_learning_curves_have_a_panel_a_model_and_phase_and_a_line_a_seed(suite):
    figures = {label: plots.learning_curves(of_label(full(suite), label)) for label in ("ddpm", "gan", "ldm")}
    titles = {axes.get_title(loc="left"): axes for figure in figures.values() for axes in figure.axes}
    assert {"ddpm", "gan, generator", "gan, critic", "ldm, autoencoder", "ldm, diffusion"} == set(titles) - {""}
    assert len(titles["gan, critic"].lines) == 3 + 1 and len(titles["gan, critic"].collections) == 1
    assert len(titles["ddpm"].lines) == 1 and not titles["ddpm"].collections
    assert "gan seed 2 to its end (diverged)" in figures["gan"].get_label()
    rest = plots.learning_curves(full(suite)).get_label()
    assert "1 more rows of the tables" in rest and "1 of 3 runs of gan (diverged)" in rest


def test_nothing_measured_still_gives_figures(tmp_path):
    records = write_runs([make_record("ddpm", status="failed")], tmp_path)
    for plot in plots.ALL.values():
        assert svg(plot.draw(full(records), plots.palette(full(records))))


def test_sheets_show_the_first_samples_and_no_others(suite):
    record = next(record for record in suite if record.job.model == "vae")
    stored = np.load(record.folder / "samples.npy")
    page = sheet(first_samples(record, 6), columns=3)
    assert page.shape == (2 * 29 + 1, 3 * 29 + 1, 3)
    fifth = page[30:58, 30:58]
    assert (fifth == stored[4][0][..., None]).all()


def test_sheets_keep_the_colours():
    images = np.zeros((1, 3, 4, 4), dtype=np.uint8)
    images[0, 0] = 255
    assert sheet(images, columns=1)[1:5, 1:5].tolist() == [[[255, 0, 0]] * 4] * 4


def test_sample_grids_show_every_row_in_the_tables_order(suite, tmp_path):
    figure = plots.sample_grids(full(suite), count=16)
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.images]
    assert titles == ["real", "ddpm", "ldm", "vae", "flow", "gaussian", "gan", "noise"]
    save(figure, tmp_path / "samples.png", dpi=40)
    assert Image.open(tmp_path / "samples.png").size[0] > 300


def test_two_rows_of_one_name_are_told_apart_by_what_they_condition_on(tmp_path):
    records = write_runs([make_record("gan"), make_record("gan", conditional=True), make_record("vae")], tmp_path)
    for record in records:
        np.save(record.folder / "samples.npy", np.zeros((4, 1, 28, 28), np.uint8))
    titles = [axes.get_title(loc="left") for axes in plots.sample_grids(full(records)).axes if axes.images]
    assert sorted(titles) == ["gan, conditional", "gan, unconditional", "vae"]
    assert len({record.folder for record in records}) == 3


@pytest.mark.parametrize("broken", [np.zeros((4, 3, 28, 28), np.uint8), np.zeros((4, 1, 28, 28), np.float32)])
def test_samples_of_another_shape_or_type_are_corrupt(tmp_path, broken):
    (record,) = write_runs([make_record("ddpm")], tmp_path)
    np.save(record.folder / "samples.npy", broken)
    with pytest.raises(CorruptData, match=r"samples\.npy"):
        first_samples(record)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.5, "0.5"), (200, "200"), (5000, "5,000"), (2e14, "2e14"), (1e-5, "1e-5")]
)
def test_ticks_are_plain_numbers(value, text):
    assert tick(value) == text


@pytest.mark.parametrize("rate", [57_576.0, 71_000.0, 590.0, 0.5])
def test_ticks_do_not_touch(rate):
    figure = plots.fid_against_sampling(full([make_record("gaussian", rate=rate)]))
    FigureCanvasAgg(figure).draw()
    labels = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert len(labels) > 2 and all(right.x0 - left.x1 > 4 for left, right in pairwise(labels))


def test_a_null_loss_is_told_instead_of_an_error(tmp_path):
    (record,) = write_runs([make_record("ddpm")], tmp_path)
    with (record.folder / "progress.jsonl").open("a") as file:
        file.write(json.dumps({"step": 999, "images": 99999, "phase": "train", "loss": None}) + "\n")
    figure = plots.learning_curves(full([record]))
    assert svg(figure)
    assert "1 points of ddpm seed 0 (no finite loss)" in figure.get_label()


def test_bars_reach_over_the_interval_of_the_mean():
    records = [*seeds_of("ddpm", [10.0, 12.0, 14.0]), make_record("gan", fid=20.0)]
    (axes,) = plots.fid_against_training(full(records)).axes
    (bar,) = [line for line in axes.collections if hasattr(line, "get_segments")]
    ((_, low), (_, high)) = bar.get_segments()[0]
    assert (low, high) == pytest.approx((12 - 4.3026527 * 2 / 3**0.5, 12 + 4.3026527 * 2 / 3**0.5))
    assert "95 % intervals" in plots.fid_against_training(full(records)).get_label()


def test_a_known_entropy_is_a_line_among_the_likelihoods():
    entropy = Entropy(bits_per_dim=1.25, error=0.01)
    for known in (None, entropy):
        record = make_record("ddpm")
        record.dataset.entropy = known
        (axes,) = plots.likelihoods(full([record])).axes
        lines = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"]
        assert lines == ([1.25] if known else [])


def test_of_many_gaps_some_are_named_and_all_are_counted():
    figure, _ = panels_of(1, (6, 4), 1)
    label = captioned(figure, "A plot.", (f"run {i}" for i in range(30))).get_label()
    assert "run 7; 22 more like these." in label and "run 8" not in label


# What the plots of the report show


def lines_at(axes, style):
    return [list(zip(line.get_xdata(), line.get_ydata())) for line in axes.lines if line.get_linestyle() == style]


def test_the_pareto_front_joins_what_none_undercuts_in_both():
    points = [(1.0, 9.0), (2.0, 9.5), (3.0, 4.0), (4.0, 4.0), (5.0, 6.0), (6.0, 1.0)]
    assert pareto(points) == [(1.0, 9.0), (3.0, 4.0), (6.0, 1.0)]
    assert pareto([(60.0, 9.0), (60.3, 4.0), (61.0, 1.0)]) == [] == pareto([])


def test_a_model_with_a_failed_seed_is_never_on_the_front():
    records = [*seeds_of("cheap", [10.0, None], flops=1e13), *seeds_of("fair", [20.0, 22.0], flops=2e14)]
    records += seeds_of("dear", [15.0, 17.0], flops=4e14)
    (axes,) = plots.fid_against_training(full(records), "flops").axes
    (front,) = lines_at(axes, "-.")
    assert (2e14, 21.0) in front and (4e14, 16.0) in front and not any(x == 1e13 for x, _ in front)


def test_the_band_of_a_learning_curve_reaches_from_the_lowest_to_the_highest_seed(tmp_path):
    records = write_runs(seeds_of("ddpm", [20.0, 21.0, 22.0]), tmp_path)
    for record, shift in zip(records, (0.0, 1.0, 5.0)):
        lines = [{"images": x, "loss": 1.0 + shift + x / 100, "phase": "train"} for x in (100, 200, 300)]
        (record.folder / "progress.jsonl").write_text("\n".join(map(json.dumps, lines[: 2 if shift == 5.0 else 3])))
    (axes,) = plots.learning_curves(full(records)).axes
    (band,), mean = axes.collections, axes.lines[-1]
    ys = band.get_paths()[0].vertices[:, 1]
    assert (ys.min(), ys.max()) == (2.0, 8.0)
    assert list(zip(mean.get_xdata(), mean.get_ydata())) == [(100, 4.0), (200, 5.0)], "as far as all three go"


def test_quality_along_the_training_stands_beside_its_losses(tmp_path):
    whole = with_curve("ddpm")
    points = [point.model_copy(update={"images": 100 * i}) for i, point in enumerate(whole.curve, 1)]
    (record,) = write_runs([whole.model_copy(update={"curve": points})], tmp_path)
    shown = {axes.get_ylabel(): axes for axes in plots.learning_curves(full([record])).axes}
    assert set(shown) == {"FID test", "loss", "kl"}
    assert lines_at(shown["FID test"], "-") == [[(100, 80.0), (200, 40.0), (300, 20.0)]]


def curves_drawn(tmp_path, *lines, label="gan"):
    """The panels of a run with these points, by title and name of the loss."""
    (record,) = write_runs([make_record(label)], tmp_path)
    (record.folder / "progress.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    figure = plots.learning_curves(full([record]))
    assert svg(figure)
    return {(axes.get_title(loc="left"), axes.get_ylabel()): axes for axes in figure.axes if axes.has_data()}, figure


def test_every_loss_of_a_model_has_a_panel_that_names_it_and_its_phase(tmp_path):
    where = [{"step": step, "seconds": 0.1, "learning_rate": 1e-3, "images": 64 * step} for step in (1, 2, 3)]
    critic = [{**at, "phase": "critic", "loss": -at["step"], "real_score": 0.5 * at["step"]} for at in where]
    generator = [{**at, "phase": "generator", "loss": 1.0, "seen": None} for at in where]
    panels, figure = curves_drawn(tmp_path, *critic, *generator)
    assert list(panels) == [("gan, critic", "loss"), ("gan, critic", "real_score"), ("gan, generator", "loss")]
    (line,) = panels["gan, critic", "real_score"].lines
    assert list(zip(line.get_xdata(), line.get_ydata())) == [(64, 0.5), (128, 1.0), (192, 1.5)]
    colours = {axes.lines[0].get_color() for axes in panels.values()}
    assert colours == {looks_of(["gan"])["gan"][0]} and "Not drawn" not in figure.get_label()


def test_of_very_many_losses_some_are_counted(tmp_path):
    losses = {f"part_{i}": 1.0 for i in range(20)}
    panels, figure = curves_drawn(tmp_path, {"step": 1, "images": 64, "phase": "train", "loss": 1.0, **losses})
    assert len(panels) == MOST_LOSSES and "13 more losses of gan, train" in figure.get_label()


@pytest.mark.parametrize(
    ("values", "scaled"),
    [
        ([100 * 0.9**i for i in range(60)], "log"),  # over decades
        ([100.0, *[1.0] * 40], "log"),  # a start that would hide the rest
        ([2.0, 1.5, *[1.2] * 40], "linear"),
        ([*[1.0, 2.0] * 30, 1e-6], "linear"),  # one dip
        ([-1.0, *[100 * 0.9**i for i in range(60)]], "linear"),
        ([0.0] * 10, "linear"),
    ],
)
def test_an_axis_is_logarithmic_where_a_curve_spans_decades(tmp_path, values, scaled):
    lines = ({"step": i, "images": 64 * i, "phase": "train", "loss": value} for i, value in enumerate(values, 1))
    panels, _ = curves_drawn(tmp_path, *lines)
    assert [axes.get_yscale() for axes in panels.values()] == [scaled]


def test_cost_by_phase_adds_up_and_says_what_did_not_finish():
    records = [*quick_suite(), *seeds_of("mine", [None])]
    figure = plots.cost_by_phase(full(records))
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert sum(widths) == pytest.approx(60 * 6) and sorted(set(widths)) == [30, 60]
    assert any("autoencoder 50 %, diffusion 50 %" in text for text in words(figure))
    assert "1 of 1 runs of mine (diverged)" in figure.get_label()


def test_with_a_known_limit_a_bar_is_the_gap_and_a_bound_is_hatched():
    records = [with_entropy(make_record("ddpm", bits=1.5)), with_entropy(make_record("flow", bits=1.6, kind="exact"))]
    figure = plots.likelihoods(full(records))
    bars = {round(bar.get_x() + bar.get_width(), 3): bar for bar in figure.axes[0].patches}
    assert all(bar.get_x() == pytest.approx(1.4) for bar in bars.values())
    assert bars[1.5].get_width() == pytest.approx(0.1) and bars[1.5].get_hatch() and not bars[1.6].get_hatch()
    assert any("gap ≤ 0.100" in text for text in words(figure))


@pytest.mark.parametrize("name", ["fid-training-flops", "fid-sampling", "likelihoods", "cost-by-phase"])
def test_every_word_has_room_and_no_two_panels_overlap(name):
    """Also where models are many and named at length, in one panel more than in the other."""
    records = [reference("real"), make_record("gan", conditional=True), *quick_suite()]
    records += [make_record(f"a-model-of-many-parts-{i}", bits=2.0) for i in range(8)]
    figure = plots.ALL[name].draw(full(records), plots.palette(full(records)))
    canvas = FigureCanvasAgg(figure)
    whole, panels = figure.bbox, [axes.get_tightbbox(canvas.get_renderer()) for axes in figure.axes]
    assert len(panels) == 2
    for x0, y0, x1, y1 in (panel.extents for panel in panels):
        assert x0 >= -1 and y0 >= 0 and x1 <= whole.x1 + 1 and y1 <= whole.y1
    assert panels[0].y0 >= panels[1].y1


def test_a_figure_holds_so_many_panels_and_says_how_many_more_there_are():
    records = [make_record("ddpm", dataset=f"d{i}", digest=f"{i:064}") for i in range(MOST_PANELS + 3)]
    figure = plots.fid_against_sampling(full(records))
    assert len(figure.axes) == MOST_PANELS and "3 more panels" in figure.get_label()


@pytest.mark.parametrize("name", ["likelihoods", "cost-by-phase"])
def test_of_many_models_some_have_a_bar_and_the_others_are_counted(name):
    records = [make_record(f"m{i:02}", bits=1.0 + i / 100) for i in range(MOST_BARS + 5)]
    figure = plots.ALL[name].draw(full(records), plots.palette(full(records)))
    assert len(figure.axes[0].get_yticks()) == MOST_BARS
    assert "5 more models of mnist5k, unconditional" in figure.get_label()
    assert "m00" in words(figure) and "m24" not in words(figure)
