"""The cost table: generator, classifier and first stage apart, in V100-days, and beside the published one."""

import json
import re

import pytest
from plugin_sources import plugin_source
from records_factory import (
    full,
    make_record,
    of_one_training,
    quick_suite,
    reference,
    seeds_of,
    with_errors,
    with_phases,
    write_runs,
)

from genbench import DataSpec, plots
from genbench.plots.style import MARKERS, svg
from genbench.plots.sweeps import sweeps_of
from genbench.records.slots import Slot
from genbench.records.v100 import Conversion, convert
from genbench.report import build_report
from genbench.running.run import parameters_by_phase
from genbench.support.parts import CLASSIFIER, FIRST_STAGE, GENERATOR
from genbench.tables.build import make_tables
from genbench.tables.formats import formats, render, render_compact
from genbench.tables.parts import UNITS
from genbench.tables.published import published
from genbench_gan import GAN, GANConfig

DAY = 86_400
FACTOR = Conversion(factor=2.2)
GUIDED = {
    "autoencoder": (15, 1e14, FIRST_STAGE),
    "classifier": (12, 3e13, CLASSIFIER),
    "diffusion": (30, 2e14, GENERATOR),
}
"""57 of 60 seconds: three are of no phase."""
WIDE = [80, 120]


def guided(label="LDM-8-G", **changes):
    return with_phases(make_record(label, model="ldm", conditional=True, **changes), **GUIDED)


def cost_table(*records):
    (table,) = (table for table in make_tables(records, "cost") if not table.published)
    return table


def cells_of(table, label):
    (row,) = (row for row in table.rows if row.label == label)
    return {slot.metric: cell for slot, cell in row.cells.items()}


def said(table, words):
    (found,) = (note for note in table.footnotes if words in note)
    return found


# Parts


def test_generator_and_classifier_are_booked_apart_and_their_sum_is_the_whole_training():
    cells = cells_of(cost_table(*convert([guided()], FACTOR)), "LDM-8-G")
    shares = {"generator": (48, 3e14), "classifier": (12, 3e13), "overall": (60, 3.3e14), "first_stage": (15, 1e14)}
    for who, (seconds, flops) in shares.items():
        assert cells[f"{who}_device_seconds"].value == pytest.approx(seconds), "what no phase has is the generator's"
        assert cells[f"{who}_flops"].value == pytest.approx(flops)
        assert cells[f"{who}_v100_days"].value == pytest.approx(seconds * 2.2 / DAY)
    assert not any(cells[f"{who}_{unit}"].rank for who in shares for unit in UNITS)


def test_a_training_of_no_parts_is_all_the_generators_and_the_dashes_say_why():
    cells = cells_of(cost_table(make_record("ddpm"), reference("real")), "ddpm")
    assert cells["generator_device_seconds"].value == cells["overall_device_seconds"].value == 60
    for who, reason in (("classifier", "no classifier guidance"), ("first_stage", "no first stage")):
        for unit in UNITS:
            cell = cells[f"{who}_{unit}"]
            assert (cell.value, cell.status) == (None, "not_applicable") and reason in cell.note
    assert "no factor given" in cells["generator_v100_days"].note
    assert cells_of(cost_table(make_record("ddpm"), reference("real")), "real")["classifier_flops"].value is None


def test_a_part_whose_flops_were_not_counted_leaves_the_rest_unknown_and_its_seconds_known():
    record = guided()
    record.cost.train.phases["classifier"].flops = None
    cells = cells_of(cost_table(record), "LDM-8-G")
    assert cells["classifier_flops"].value is cells["generator_flops"].value is None
    assert cells["generator_device_seconds"].value == 48 and cells["overall_flops"].value == pytest.approx(3.3e14)


def test_a_record_that_does_not_say_of_what_its_phases_are_part_is_the_generators():
    old = with_phases(make_record("ldm"), autoencoder=(15, 1e14, ""), diffusion=(45, 2e14, ""))
    assert '"part"' not in old.to_json()
    cells = cells_of(cost_table(old), "ldm")
    assert cells["generator_device_seconds"].value == 60 and "no classifier" in cells["classifier_flops"].note
    assert "did not record" in cells["first_stage_flops"].note
    alone = with_phases(make_record("ddpm"), train=(60, 2e14, ""))
    assert "has no first stage" in cells_of(cost_table(alone), "ddpm")["first_stage_flops"].note


def test_a_mean_over_seeds_is_of_each_part():
    one, two = guided(), guided(seed=1)
    two.cost.train.phases["classifier"].device_seconds = 14
    cell = cells_of(cost_table(one, two), "LDM-8-G")["classifier_device_seconds"]
    assert (cell.value, cell.n_ok, cell.values) == (13, 2, (12, 14))


def test_a_first_stage_is_shown_both_ways_and_said():
    table = cost_table(guided(), make_record("ddpm", conditional=True))
    assert said(table, "first stage is in") == (
        "A first stage is in generator and overall compute and in the parameters (LDM-8-G: 1.00 M); published rows "
        "leave theirs out."
    )
    text = render([table], "text")
    assert "15.0 (1.00e14)" in text and "48.0 (3.00e14)" in text and "12.0 (3.00e13)" in text
    assert not any("first stage" in note for note in cost_table(make_record("ddpm")).footnotes)


def test_every_format_has_the_parts_and_leaves_out_those_of_no_row():
    with_both, without = cost_table(guided()), cost_table(make_record("ddpm"))
    for name in formats():
        assert "12" in render([with_both], name)
    assert "classifier compute" in render([with_both], "text").replace("\n", " ")
    assert "Left out, as no row has a value: classifier compute" in render([without], "text").replace("\n", " ")
    (plain,) = json.loads(render([with_both], "json"))["tables"]
    assert plain["rows"][0]["cells"]["classifier_device_seconds"]["value"] == 12


def test_parameters_that_several_phases_move_count_once():
    """The lazy penalties of StyleGAN2 move the networks that critic and generator move."""
    config = GANConfig(**GAN.presets["tiny"] | {"network": "style", "base": 4, "r1": 1.0, "path_length": 1.0})
    model = GAN(DataSpec("toy", (1, 16, 16)), config)
    counts = parameters_by_phase(model)
    assert sum(counts.values()) == sum(p.numel() for p in model.parameters())
    assert counts["r1"] == counts["path_length"] == 0 < min(counts["critic"], counts["generator"])


STAGES = plugin_source("""
from genbench import Phase

class Stages(Mean):
    name = "stages"
    class Config(Model.Config):
        scale: float = field(1.0, "sample", "of the samples", ge=0)
    def __init__(self, data, config):
        super().__init__(data, config)
        self.first, self.guide = nn.Linear(data.dims, 4), nn.Linear(data.dims, 3)
    def phases(self):
        def sgd(module):
            return torch.optim.SGD(module.parameters(), lr=0.01)
        return [
            Phase("autoencoder", self.first, sgd(self.first), span=(0.0, 0.3), part="first stage"),
            Phase("noisy", self.guide, sgd(self.guide), span=(0.3, 0.5), part="classifier"),
            Phase("train", self, torch.optim.SGD([self.mean], lr=0.01), span=(0.5, 1.0)),
        ]
    def loss(self, phase, batch):
        layers = {"autoencoder": self.first, "noisy": self.guide}
        x = batch.images.flatten(1)
        return layers[phase](x).square().mean() if phase in layers else super().loss(phase, batch)
    def sample(self, n, labels=None):
        return (self.config.scale * super().sample(n, labels)).clamp(-1, 1)
""")
FEW = ["-d", "digits", "--budget", "20steps", "--samples", "100", "--likelihood-images", "40", "--device", "cpu"]


@pytest.mark.slow
def test_a_model_declares_the_parts_and_every_row_of_its_training_has_them(genbench, tmp_path):
    (tmp_path / "stages.py").write_text(STAGES)
    words = ["--plugin", "stages.py", "-m", "stages", *FEW, "--sweep", "stages.scale=0,0.5,1"]
    assert genbench("run", *words).code == 0
    records = [json.loads(file.read_text()) for file in sorted(tmp_path.glob("runs/stages*/record.json"))]
    for record in records:
        phases = record["cost"]["train"]["phases"]
        parts = {"autoencoder": "first stage", "noisy": "classifier", "train": "generator"}
        assert {name: phase["part"] for name, phase in phases.items()} == parts
    assert len(records) == 3 and sum(record["cost"]["train"]["trained_by"] != "" for record in records) == 2
    rows = genbench("table", "runs", "--layout", "cost", "--v100-factor", "14.4", "--format", "json").json
    shown = [row["cells"] for row in rows["tables"][0]["rows"] if row["kind"] == "model"]
    for cells, record in zip(shown, records):
        train = record["cost"]["train"]
        seconds = train["phases"]["noisy"]["device_seconds"]
        assert cells["classifier_device_seconds"]["value"] == pytest.approx(seconds) and seconds > 0
        assert cells["classifier_flops"]["value"] == train["phases"]["noisy"]["flops"] > 0
        assert cells["generator_flops"]["value"] == train["flops"] - train["phases"]["noisy"]["flops"]
        assert cells["classifier_v100_days"]["value"] == pytest.approx(seconds * 14.4 / DAY)
    plan = genbench("plan", "--plugin", "stages.py", "-m", "stages", *FEW, "--seeds", "7,", "--json").json
    (estimate,) = [row["estimate"] for row in plan if row["model"] == "stages"]
    assert {name: phase["part"] for name, phase in estimate["phases"].items()} == parts
    assert sum(phase["train_flops"] for phase in estimate["phases"].values()) == estimate["train_flops"]
    days = [phase["v100_days"] for phase in estimate["phases"].values()]
    assert sum(days) == pytest.approx(estimate["v100_days"]) and min(days[:2]) > 0
    assert genbench("report", "runs", "-o", "pages").code == 0
    page = (tmp_path / "pages" / "datasets" / "digits.html").read_text()
    assert "digits-sampling-options.svg" in page and "of which first stage" in page


# Beside the published table


def table18(**changes):
    """Runs of four rows of one block and of one of another, and one that has no row."""
    labels = {"LDM-8-G": 30.0, "LDM-4": 20.0, "ADM-G-250-steps": 10.0, "BigGAN-deep": 40.0}
    records = [guided(label, fid=fid, bits=None, **changes) for label, fid in labels.items()]
    return [*records, make_record("StyleGAN2-FFHQ-256", model="gan", bits=None), make_record("gaussian")]


def beside(*records):
    (table,) = make_tables(records, "beside")
    return table


def test_costs_stand_beside_the_published_ones_and_are_never_ranked():
    table = beside(*convert(table18(), FACTOR))
    heads = [column.heading for column in table.columns]
    assert heads[:6] == [
        "paper generator compute, V100-days", "here generator V100-days", "paper classifier compute, V100-days",
        "here classifier V100-days", "paper overall, V100-days", "here overall V100-days",
    ]  # fmt: skip
    assert heads[6:10] == ["paper samples/s", "here samples/s", "paper parameters", "here parameters"]
    (row,) = (row for row in table.rows if row.name == "LDM-8-G, 100 steps")
    cells = {slot.metric: cell for slot, cell in row.cells.items()}
    printed = [cells[f"published_{who}_v100_days"].printed for who in ("generator", "classifier", "overall")]
    assert printed == ["79", "12", "91"]
    assert cells["classifier_v100_days"].value == pytest.approx(12 * 2.2 / DAY)
    ranks = [cell.rank for row in table.rows for slot, cell in row.cells.items() if not slot.extractor]
    assert not any(ranks)
    assert not any(cell.rank for row in table.rows for slot, cell in row.cells.items() if "published" in slot.metric)


def test_what_keeps_compute_and_speed_apart_is_said_once():
    table = beside(*convert(table18(), FACTOR))
    told = {note.partition(":")[0]: note for note in table.told}
    assert "A100's days times 2.2" in told["V100-days"] and "1 device = 2.2 V100" in told["V100-days"]
    assert "batch not stated" in told["samples/s"] and "batch 250" in told["samples/s"]
    assert "paper: in neither compute nor parameters, here: in both" in told["First stage"]
    assert "LDM-8-G, 100 steps 25 % of the compute, 1.00 M" in told["First stage"]
    assert "no factor was given" in next(note for note in beside(*table18()).told if note.startswith("V100-days"))
    for words in ("V100-days: paper", "samples/s: paper", "First stage: paper", "Parameters: paper"):
        assert sum(note.startswith(words) for note in table.footnotes) == 1
    assert not any("paper: on one A100" in note for note in beside(make_record("SNGAN")).told), "the other has no costs"


def test_costs_are_in_no_order():
    records = table18()
    words = [note for note in beside(*records).told if "Kendall" in note]
    assert words and not any("parameters" in note or "samples/s" in note for note in words)
    titles = [axes.texts[-1].get_text() for axes in plots.ranks(full(records)).axes]
    assert titles and not any("param" in title or "samples" in title for title in titles)


@pytest.mark.parametrize("room", WIDE)
def test_on_a_terminal_the_many_pairs_are_not_torn_apart(room):
    tables = [beside(*convert(table18(), FACTOR))]
    for text in (render_compact(tables, "text", room), render(tables, "text", room)):
        assert max(map(len, text.splitlines())) <= room
        heads = [line for line in text.splitlines() if line.startswith("model")]
        assert heads and all(line.count("paper") == line.count("here") for line in heads)


def test_a_first_stages_row_is_of_reconstructions_whatever_the_class():
    rows = {row.model: row for row in published("ldm").table.rows}
    first = rows["VQGAN-f-4 (first stage)"]
    assert (first.cells[Slot("rfid")].value, first.cells[Slot("fid")].value, first.conditional) == (0.58, None, False)
    assert first.block == rows["ADM"].block == "ImageNet 256, class-conditional"
    assert rows["LDM-8-G"].cells[Slot("rfid")].value is None
    record = make_record("VQGAN-f-4-first-stage", model="vqgan", values={"rfid": 3.0}, bits=None)
    table = beside(record, make_record("LDM-8-G", conditional=True))
    (row,) = (row for row in table.rows if row.label == record.job.label)
    cells = {slot.metric: cell for slot, cell in row.cells.items()}
    assert (cells["rfid"].value, cells["published_rfid"].value, cells["published_fid"].value) == (3.0, 0.58, None)


def test_the_odd_rows_have_their_footnotes():
    remarks = {row.name: row.remark for row in published("ldm").table.rows}
    for name, words in {
        "BigGAN-deep": "55.7 M", "StyleGAN2": "generator and critic", "LDM-8, 100 steps": "294 M",
        "ADM-G, 250 steps": "ancestral", "ADM, 250 steps": "ancestral", "ADM-G, ADM-U, 250 steps": "512x512",
        "VQGAN-f-8 (first stage)": "rFID", "LDM-8-G, 100 steps": "111.6 M", "ADM-G, 25 steps": "5.44",
    }.items():  # fmt: skip
        assert words in remarks[name] and re.search(r"\(.*\)\.$", remarks[name])


# Figures


def marks(axes):
    """(x, y) of each mark, and whether it is hollow."""
    return {
        (float(x), float(y)): line.get_markerfacecolor() == "none"
        for line in axes.lines
        if line.get_marker() not in ("None", None, "")
        for x, y in zip(*line.get_data())
    }


def test_fid_against_compute_has_published_and_measured_rows_in_panels_of_their_own():
    records = [with_errors(record) for record in convert(table18(), FACTOR)]
    figure = plots.fid_against_compute(full(records))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[:2] == ["paper: FFHQ 256", "here: mnist5k, unconditional"]
    paper, here = figure.axes[2:]
    assert paper.get_title(loc="left").startswith("paper: ImageNet 256") and "conditional" in here.get_title(loc="left")
    found = marks(paper)
    assert found[91, 8.11] and found[271, 10.56] and found[128, 6.95] and found[256, 6.95], "the range has two ends"
    assert all(found.values()), "hollow"
    own = marks(here)
    assert not any(own.values()) and {y for _, y in own} == {fid * 1.02 for fid in (10.0, 20.0, 30.0, 40.0)}
    assert {round(x * DAY / 2.2, 6) for x, _ in own} == {60}
    assert not any(line.get_linestyle() == "-." for axes in figure.axes for line in axes.lines), "no front across"
    assert "nothing is ranked from one side to the other" in figure.get_label()
    assert here.get_xlabel() == paper.get_xlabel() == "overall compute, V100-days"
    assert "first stage" in figure.get_label()
    assert svg(figure) == svg(plots.fid_against_compute(full(records)))


def test_published_rows_without_a_run_differ_in_their_marks():
    figure = plots.fid_against_compute(full([guided("LDM-8-G", bits=None)]))
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "none"]
    assert len({(line.get_color(), line.get_marker()) for line in hollow}) == len(hollow) > len(MARKERS)


def test_without_a_factor_compute_here_is_in_seconds_and_says_so():
    figure = plots.fid_against_compute(full(table18()))
    assert [axes.get_xlabel() for axes in figure.axes[:2]] == [
        "overall compute, V100-days",
        "overall compute, device-seconds",
    ]
    assert "--v100-factor" in figure.get_label() and {x for x, _ in marks(figure.axes[1])} == {60}


def test_fid_against_throughput_has_each_sides_own_speed_and_what_is_missing():
    records = [*table18(rate=20.0), guided("ADM-G-25-steps", status="diverged")]
    figure = plots.fid_against_throughput(full(records))
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    paper = next(axes for title, axes in panels.items() if title.startswith("paper: ImageNet"))
    here = next(axes for title, axes in panels.items() if title == "here: mnist5k, conditional")
    assert (1.93, 8.11) in marks(paper) and {x for x, _ in marks(here)} == {20}
    words = figure.get_label()
    assert "BigGAN-deep in the paper (not given in the source)" in words and "diverged" in words
    assert "batch 250" in words and "further right" in words


def test_tables_without_published_costs_have_no_such_figure():
    for draw in (plots.fid_against_compute, plots.fid_against_throughput):
        for records in (quick_suite(), [make_record("SNGAN"), make_record("NCSN")]):
            assert not any(axes.has_data() for axes in draw(full(records)).axes)


def swept(option="guidance", values=(1.0, 1.25, 1.5), fids=(30.0, 20.0, 25.0), seeds=(0,), **others):
    """A row for each value of an option of sampling, of one training for each seed."""
    records = [
        make_record(f"LDM-4-{value}", seed, model="ldm", fid=fid + seed, bits=None)
        for value, fid in zip(values, fids)
        for seed in seeds
    ]
    return of_one_training(records, option, **others)


def test_a_sweep_has_a_line_of_its_rows_in_each_metric():
    figure = plots.sampling_options(full([*swept(), make_record("gan", fid=5.0)]))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [f"{metric}, mnist5k, unconditional" for metric in ("IS", "FID test", "precision", "recall")]
    fid = figure.axes[1]
    (line,) = [line for line in fid.lines if len(line.get_xdata()) > 1]
    assert list(zip(*line.get_data())) == [(1.0, 30.0), (1.25, 20.0), (1.5, 25.0)] and fid.get_xlabel() == "guidance"
    assert all(len(axes.lines) == 1 for axes in figure.axes)
    assert "share one training" in figure.get_label()


def test_points_of_a_sweep_are_means_over_its_seeds():
    (line,) = plots.sampling_options(full(swept(seeds=(0, 1, 2)))).axes[1].lines
    assert list(line.get_ydata()) == [31.0, 21.0, 26.0]


def test_rows_that_differ_in_more_or_in_their_training_are_no_sweep():
    apart = swept()
    for record in apart:
        record.cost.train.trained_by = ""
    both = [*swept(values=(1.0,), fids=(9.0,), steps=25), *swept(values=(1.5,), fids=(8.0,), steps=250)]
    for record in both[1:]:
        record.cost.train.trained_by = both[0].job.id
    word = [record.model_copy(deep=True) for record in swept(values=(1.0, 2.0), fids=(9.0, 8.0))]
    for record, sampler in zip(word, ("ddim", "ancestral")):
        record.samples.config = {"sampler": sampler}
    for records in (apart, both, word, swept(values=(1.0,), fids=(9.0,))):
        assert not any(axes.has_data() for axes in plots.sampling_options(full(records)).axes)


def test_of_one_training_each_option_has_its_own_sweep():
    """Two values of guidance at 25 steps and one of them at 250 too: one sweep of each option."""
    rows = [*swept(values=(1.0, 1.5), fids=(9.0, 8.0), steps=25), *swept(values=(1.25,), fids=(7.0,), steps=250)]
    rows[2].cost.train.trained_by = rows[0].job.id
    rows[2].samples.config["guidance"] = 1.0
    (table,) = full(rows)
    found = {sweep.option: sweep for sweep in sweeps_of(table.rows)}
    assert {option: [sweep.value(row) for row in sweep.rows] for option, sweep in found.items()} == {
        "guidance": [1.0, 1.5],
        "steps": [25.0, 250.0],
    }
    assert found["guidance"].name == "LDM-4"


def test_a_sweep_names_the_row_that_has_no_number():
    records = swept(values=(1.0, 1.25, 1.5), fids=(9.0, 8.0, 7.0))
    failed = seeds_of("LDM-4-2.0", [None], model="ldm", bits=None)[0]
    failed.cost.train.trained_by = records[0].job.id
    failed.samples.config = {"guidance": 2.0}
    figure = plots.sampling_options(full([*records, failed]))
    assert "LDM-4-2.0" in figure.get_label() and "diverged" in figure.get_label()


def test_a_report_has_the_figures_in_their_sections(tmp_path):
    records = write_runs([*table18(), *swept()], tmp_path / "runs")
    page = (build_report(records, tmp_path / "report").parent / "datasets" / "mnist5k.html").read_text()
    for section, names in {"beside": ["fid-compute", "fid-throughput"], "quality": ["sampling-options"]}.items():
        text = page.partition(f'id="{section}"')[2].partition("</section>")[0]
        assert all(f"mnist5k-{name}.svg" in text for name in names)
