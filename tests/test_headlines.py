"""What the overview says: who is ahead, by how much, at what cost and how sure, and what each model can do."""

import pytest
from records_factory import full, make_record, quick_suite, reference

from genbench.report.facts import abilities
from genbench.tables.headlines import headlines


def test_the_headline_names_the_lowest_fid_its_cost_and_the_scale():
    (head,) = headlines(full(quick_suite()))
    assert (head.winner, head.value, head.title) == ("gan", "83.40", "mnist5k, unconditional")
    assert head.cost == "60.0 device-seconds of training, 8.34e13 FLOPs, 0.435 s per 1,000 samples, on cpu (2 threads)"
    assert head.margin == "ddpm, 118.0, is next: 1.41 times as high"
    assert [(s.row.name, s.ratio and round(s.ratio, 2)) for s in head.rows][:3] == [
        ("real", None), ("gan", 1.0), ("ddpm", 1.41),
    ]  # fmt: skip
    assert "real images score 20.90 and noise 4,612" in head.scale
    assert "One seed per model" in head.sure


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
    of_each = [part.split(" device-seconds")[0] for part in head.cost.split("; ")]
    assert of_each == (["a: 60.0", "b: 60.0"] if gap == 1.0 else ["60.0"])


def test_what_a_model_can_do_is_told_from_its_records():
    able = [make_record("flow", kind="exact"), make_record("gan", bits=None), make_record("old"), reference("real")]
    able[0].capabilities, able[1].capabilities = ["likelihood", "bound over time"], ["conditional"]
    names, found = abilities(able)
    assert names == ["likelihood", "bound over time", "conditional"]
    assert [list(found[label].values()) for label in ("flow", "gan", "old")] == [
        ["exact", "yes", "no"], ["no", "no", "yes"], ["bound", "–", "–"],
    ]  # fmt: skip
