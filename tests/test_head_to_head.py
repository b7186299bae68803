"""Two models or two runs head to head: known answers, directions, and what is never compared."""

import json

import pytest
from records_factory import (
    DIGEST,
    copier,
    make_record,
    make_ruler,
    reference,
    ruled,
    seeds_of,
    values_of,
    with_errors,
    write_runs,
)

from genbench.tables.head_to_head import Side, head_to_head, verdict
from genbench.tables.head_to_head_text import text_of
from genbench.tables.ranking import Entrant, difference


def match(ours, theirs):
    return head_to_head(Side("ours", tuple(ours)), Side("theirs", tuple(theirs)))


def of(found, metric="fid_test"):
    return next(d for d in found.differences if d.column.metric == metric)


def said(found):
    return " ".join(verdict(found))


def test_the_difference_over_seeds_is_that_of_the_paired_test():
    from scipy.stats import ttest_rel

    a, b = [20.0, 24.0, 31.0], [40.0, 45.0, 50.0]
    known = ttest_rel(a, b).confidence_interval(0.95)
    d = of(match(seeds_of("a", a), seeds_of("b", b)))
    assert d.value == pytest.approx(-20.0) and d.interval == pytest.approx((known.low, known.high))
    assert (d.better, d.why, d.p) == ("a", "", None)


@pytest.mark.parametrize(("gap", "better", "words"), [
    (10.0, "b", "By a paired t-test over 6 common seeds, p ≤ 0.05"), (0.1, "", "is not known"),
])  # fmt: skip
def test_six_seeds_are_tested(gap, better, words):
    from scipy.stats import ttest_rel

    wobble = [0.0, 1.0, -1.0, 2.0, 0.5, -0.5]
    a = [20.0 + 3 * s for s in range(6)]
    b = [value - gap + w for value, w in zip(a, wobble)]
    found = match(seeds_of("a", a), seeds_of("b", b))
    assert of(found).p == pytest.approx(ttest_rel(a, b).pvalue)
    assert of(found).better == better and words in said(found)


def test_where_higher_is_better_the_higher_is_better():
    found = match(seeds_of("a", [5.0, 6.0, 7.0]), seeds_of("b", [200.0, 201.0, 203.0]))
    assert {d.column.metric: d.better for d in found.differences} == dict.fromkeys(
        ("fid_test", "fid_train", "kid_test", "inception_score", "precision", "recall"), "a"
    ) | {"bits_per_dim_test": "", "bits_per_dim_train": ""}
    assert "ours is better than theirs in FID test, KID test" in said(found)
    assert "No claim of significance: fewer than 6 common seeds (3)" in said(found)


def test_single_runs_are_compared_by_the_errors_within_them_and_claim_nothing():
    a, b = (with_errors(make_record(name, fid=fid)) for name, fid in (("a", 100.0), ("b", 110.0)))
    d = of(match([a], [b]))
    half = 1.959963984540054 * (1.0**2 + 1.1**2) ** 0.5
    assert d.interval == pytest.approx((-10 - half, -10 + half))
    assert d.better == "a" and "One run each: no claim of significance" in said(match([a], [b]))
    near = match([a], [with_errors(make_record("b", fid=102.5))])
    assert (of(near).better, of(near).why) == ("", "0 is within the interval")
    tie = match([a], [with_errors(make_record("b", fid=103.5))])
    assert of(tie).better == "a" and "the two tie in FID test" in " ".join(text_of(tie, [], 200).split())
    bare = match([make_record("a", fid=1.0)], [make_record("b", fid=9.0)])
    assert (of(bare).better, of(bare).why) == ("", "no error is known")


def test_several_seeds_of_which_none_is_common_prove_nothing():
    found = match(seeds_of("a", [1.0, 2.0]), [make_record("b", seed, fid=90.0 + seed) for seed in (7, 8)])
    assert of(found).better == "" and of(found).why == "no seed in common"
    lone = {(0, 0): 1.0}, {(0, 0): (0.5, 1.5)}
    assert difference(Entrant("a", *lone), Entrant("b", {(1, 0): 4.0}, {(1, 0): (3.0, 5.0)}))[1] is not None
    assert difference(Entrant("a", {(0, 0): 1.0, (1, 0): 2.0}), Entrant("b", {(2, 0): 4.0}))[1] is None


def test_only_common_seeds_count():
    found = match(seeds_of("a", [1.0, 2.0, 900.0]), seeds_of("b", [50.0, 52.0]))
    assert found.seeds == (0, 1) and of(found).a.value == 1.5
    assert verdict(found)[0] == "Only seeds of both are compared, not ours with seed 2."


def test_a_failed_seed_helps_nobody():
    found = match(seeds_of("a", [1.0, None, 2.0]), seeds_of("b", [50.0, 52.0, 53.0]))
    assert of(found).better == "" and "ours has no value for some of its seeds" in of(found).why
    assert verdict(found)[0] == "ours did not finish with seed 1."
    none = match([make_record("a", status="failed")], [make_record("b")])
    assert none.differences == [] and "No metric was measured of both" in said(none)


def test_ladders_and_copies_are_respected():
    why = "uniform noise scores 0.74, held-out real images 0.66"
    records = [with_errors(make_record("a", fid=1.0)), with_errors(make_record("b", fid=90.0))]
    records = ruled(records, make_ruler({"fid_test": why}))
    found = match(records[:1], records[1:])
    assert of(found).better == "" and of(found).why == why and "FID test" not in said(found)
    assert of(found, "kid_test").better == "a"
    found = match([with_errors(copier("a", fid=1.0))], [with_errors(make_record("b", fid=90.0))])
    assert of(found).better == "" and "ours copies images" in of(found).why


def test_two_datasets_are_never_compared_nor_two_protocols():
    other = make_record("b", fid=9.0, dataset="other", digest=DIGEST[::-1])
    found = match([make_record("a")], [other])
    assert found.differences == found.costs == []
    assert verdict(found)[0] == "ours is on mnist5k, theirs on other: numbers of two datasets are never compared."
    found = match([make_record("a")], [make_record("b", protocol={"samples": 500})])
    assert [d.column.metric for d in found.differences] == ["bits_per_dim_test", "bits_per_dim_train"]
    assert "Not compared, being measured under two protocols (samples): FID test" in said(found)


def test_blocks_references_and_budgets_are_said_first():
    found = match([make_record("a", fid=1.0)], [make_record("b", fid=90.0, conditional=True)])
    assert verdict(found)[0] == "ours is unconditional, theirs conditional: they are never ranked together."
    assert of(found).better == "" and "not known" not in said(found)
    assert "real" not in said(match([make_record("a")], [make_record("b")]))
    assert "theirs is a reference row" in verdict(match([make_record("a")], [reference("real")]))[0]
    longer = make_record("b")
    longer.job.budget = type(longer.job.budget)(unit="seconds", amount=600)
    assert verdict(match([make_record("a")], [longer]))[0] == (
        "Training budgets differ: 60 seconds for ours, 600 seconds for theirs."
    )


def test_held_out_training_images_are_no_test_images():
    tuned = [make_record(name, fid=fid) for name, fid in (("a", 1.0), ("b", 9.0))]
    for record in tuned:
        record.dataset = record.dataset.model_copy(update={"tuning": True})
    found = match(tuned[:1], tuned[1:])
    assert verdict(found)[0].startswith("Tuning split: 1,000 of the training images")
    assert "FID held-out" in said(found) and "FID test" not in said(found)


def test_costs_are_ratios():
    found = match([make_record("a", flops=2e12, rate=10.0)], [make_record("b", flops=5e12, rate=40.0)])
    assert {cost.name: cost.ratio for cost in found.costs}["flops"] == pytest.approx(2.5)
    assert verdict(found)[-1] == (
        "theirs trains with 2.5 times the FLOPs of ours; theirs samples 4 times as fast as ours."
    )
    assert "device_seconds" not in {cost.name for cost in found.costs}, "which are the seconds"


# The command


@pytest.fixture
def folder(tmp_path):
    records = [*seeds_of("gan", [20.0, 21.0, 22.0]), *seeds_of("vae", [40.0, 42.0, 43.0], config={"batch_size": 32})]
    records += [make_record("vae", fid=44.0, config={"batch_size": 8}, dataset="other", digest=DIGEST[::-1])]
    records += [make_record("two", values=values_of(9.0), config={"width": w}) for w in (1, 2)]
    return {(r.job.label, r.job.seed, r.dataset.name): r for r in write_runs(records, tmp_path / "runs")}


def test_two_labels_over_their_seeds(genbench, folder):
    text = " ".join(genbench("compare", "runs", "--labels", "gan", "vae").out.split())
    assert text.startswith("gan against vae on mnist5k, seeds 0, 1, 2 gan is better than vae in FID test")
    assert "FID test\xa0↓" in text.replace("FID test ↓", "FID test\xa0↓") and "[95 %]" in text
    assert "options: batch_size 64 | 32" in text and "job: model gan | vae code:" in text
    (found,) = genbench("compare", "runs", "--labels", "gan", "vae", "--format", "json").json["comparisons"]
    assert found["a"]["seeds"] == [0, 1, 2] and found["verdict"][0].startswith("gan is better")
    fid = next(m for m in found["metrics"] if m["metric"] == "fid_test")
    assert (fid["better"], fid["difference"]) == ("a", pytest.approx(-62 / 3))
    assert {"key", "a", "b", "unranked"} == set(found["raw"][0])


def test_two_runs_and_the_raw_list(genbench, folder):
    runs = [folder[label, 0, "mnist5k"].folder for label in ("gan", "vae")]
    assert genbench("compare", *runs).out.startswith("gan against vae on mnist5k, seed 0\n")
    rows = genbench("compare", *runs, "--json").json
    assert isinstance(rows, list) and {"key": "job.model", "a": "gan", "b": "vae", "unranked": ""} in rows
    both = genbench("compare", *runs, "--raw", "--format", "json")
    assert both.code == 2 and "--raw" in both.json["error"]["message"]
    raw = genbench("compare", *runs, "--raw").out.splitlines()
    assert len(raw) == len(rows) and raw[0].split() == ["job.model", "gan", "vae"]
    seeds = [folder["gan", seed, "mnist5k"].folder for seed in (0, 1)]
    assert genbench("compare", *seeds).out.startswith("gan seed 0 against gan seed 1 on mnist5k\n")
    assert genbench("compare", seeds[0], seeds[0]).out == "no difference\n"


def test_a_label_of_several_rows_is_asked_for(genbench, folder):
    result = genbench("compare", "runs", "--labels", "gan", "two")
    assert result.code == 2 and "'two (width=1)' or 'two (width=2)'" in result.err
    out = genbench("compare", "runs", "--labels", "two (width=1)", "two (width=2)").out
    assert "options: width 1 | 2" in out


@pytest.mark.parametrize("room", [40, 80, 120])
def test_it_fits_a_terminal(room, folder):
    found = match(seeds_of("gan", [20.0, 21.0, 22.0]), seeds_of("vae", [40.0, 42.0, 43.0]))
    text = text_of(found, ["options: " + "x 1 | 2; " * 40], room)
    assert max(map(len, text.splitlines())) <= room
    assert ("[95 %]" in text.partition("metric")[2].partition("\n")[0]) == (room >= 80)
    json.dumps(text)


def test_a_bound_is_marked_however_narrow_the_terminal():
    found = match([make_record("a", bits=2.0)], [make_record("b", bits=3.0)])
    assert all("≤ 2.0" in text_of(found, [], room) for room in (40, 80, 120))
