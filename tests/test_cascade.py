"""The cascade: small images, two stages of training and of sampling, and one bound of both."""

import copy
import math

import pytest
import torch
from pydantic import ValidationError
from test_diffusion_presets import count, update
from torch import nn
from torch.nn import functional as F
from toys import train_toy

from genbench import Batch, DataSpec
from genbench.conformance.case import Case
from genbench.conformance.verdicts import check_case
from genbench.data.mixture import make_mixture
from genbench.images import to_float, to_uint8
from genbench_ddpm.cascade import OWN, Cascade, rounded


def tiny(shape=(1, 8, 8), num_classes=0, **config) -> Cascade:
    """The preset `tiny`, with no branch at zero."""
    torch.manual_seed(0)
    model = Cascade(DataSpec("toy", shape, num_classes), Cascade.Config(**Cascade.presets["tiny"] | config))
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model.eval()


def images(n=6, shape=(1, 8, 8)):
    """Smooth images, as bin centres."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(n, shape[0], 3, 3, generator=generator)
    return to_float((F.interpolate(coarse, shape[1:], mode="bilinear") * 255).to(torch.uint8))


def seen_by(network):
    """A list that gets whatever the network is given from now on."""
    found = []
    network.register_forward_hook(lambda _, inputs, __: found.append(inputs[0]))
    return found


# The small images.


def test_small_images_are_means_rounded_as_the_harness_rounds():
    levels = torch.tensor([[0, 1, 10, 10], [2, 4, 10, 11], [255, 255, 0, 1], [255, 254, 1, 0]], dtype=torch.uint8)
    wanted = torch.tensor([[2, 10], [255, 1]], dtype=torch.uint8)  # of 1.75, 10.25, 254.75 and 0.5
    small = tiny((1, 4, 4)).small(to_float(levels[None, None]))
    assert torch.equal(small, to_float(wanted)[None, None])


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_means_of_levels_are_exact(factor):
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (500, 1, 8, 8), generator=generator, dtype=torch.uint8)
    means = levels.double().unfold(2, factor, factor).unfold(3, factor, factor).mean((-1, -2))
    small = tiny(factor=factor).small(to_float(levels))
    assert torch.equal(to_uint8(small).double(), (means + 0.5).floor())
    assert torch.equal(to_float(to_uint8(small)), small)


def test_sides_that_do_not_divide_are_padded_with_what_is_there():
    levels = torch.tensor([[0, 0, 8], [0, 0, 8], [4, 4, 12]], dtype=torch.uint8)
    model = tiny((1, 3, 3))
    small = model.small(to_float(levels[None, None]))
    assert to_uint8(small).tolist() == [[[[0, 8], [4, 12]]]] and model.enlarged(small).shape == (1, 1, 3, 3)


def test_what_is_not_finite_is_not_rounded_away():
    """So that the harness refuses a base that diverges."""
    values = torch.tensor([-1.0, 0.3, 1.0, math.nan, math.inf])
    found = rounded(values)
    assert torch.equal(found[:3], to_float(to_uint8(values[:3]))) and found[3].isnan() and found[4].isinf()


# The stages.


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 28, 28), (1, 9, 14)])
def test_images_of_any_size_are_drawn(shape, factor):
    model = tiny(shape, factor=factor, steps=2, base_steps=2)
    small = (shape[0], -(-shape[1] // factor), -(-shape[2] // factor))
    assert model.base_diffuser.data.shape == small and model.small(images(2, shape)).shape == (2, *small)
    with torch.inference_mode():
        drawn = model.sample(2)
    assert drawn.shape == (2, *shape) and drawn.abs().max() <= 1


@pytest.mark.parametrize("phase", ["base", "upsampler"])
def test_a_phase_moves_its_network_alone(phase):
    model = tiny().train()
    model.loss(phase, Batch(images())).backward()
    moved = {p.name: {id(q) for group in p.optimizer.param_groups for q in group["params"]} for p in model.phases()}
    for parameter in model.parameters():
        assert (parameter.grad is not None) == (id(parameter) in moved[phase])
    assert {id(q) for q in model.parameters()} == moved["base"] | moved["upsampler"]


def test_the_phases_share_the_budget_and_have_rates_of_their_own():
    base, upsampler = tiny(base_share=0.3, base_learning_rate=1e-3, learning_rate=1e-4).phases()
    assert (base.name, base.span, upsampler.name, upsampler.span) == ("base", (0, 0.3), "upsampler", (0.3, 1))
    assert [phase.optimizer.param_groups[0]["lr"] for phase in (base, upsampler)] == [1e-3, 1e-4]


def test_the_phases_are_booked_apart(tmp_path, digits):
    config = Cascade.Config(**Cascade.presets["tiny"] | {"base_share": 0.3, "batch_size": 8})
    given = {"config": config.model_dump(mode="json"), "train_config": config.of_role("train")}
    _, meter = train_toy(tmp_path, digits, Cascade, budget="10steps", **given)
    assert {name: ledger.updates for name, ledger in meter.phases.items()} == {"base": 3, "upsampler": 7}
    each = {name: ledger.flops / ledger.updates for name, ledger in meter.phases.items()}
    assert 0 < each["base"] < each["upsampler"]


def test_each_stage_has_a_process_of_its_own():
    model = tiny(base_schedule="linear", beta_end=0.3)
    assert model.base_process.beta[-1] == pytest.approx(0.3) and model.process.beta[-1] == pytest.approx(0.999)
    assert model.base_diffuser.diffusion is model.base_process
    assert model.upsampling(torch.zeros(1, 1, 4, 4)).diffusion is model.process


def test_training_shows_the_stages_what_sampling_will():
    """The base small images under noise, the upsampler images under noise with the small ones enlarged."""
    model, batch = tiny(), Batch(images(64))
    base, upsampler = seen_by(model.base), seen_by(model.upsampler)
    model.loss("base", batch)
    assert not upsampler and base[0].shape == (64, 1, 4, 4)
    model.loss("upsampler", batch)
    wanted = F.interpolate(model.small(batch.images), size=(8, 8), mode="bilinear")
    assert len(base) == 1 and upsampler[0].shape == (64, 2, 8, 8)
    torch.testing.assert_close(upsampler[0][:, 1:], wanted)
    assert (upsampler[0][:, :1] - batch.images).abs().mean() > 0.1


def test_the_upsampler_sees_the_small_sample_as_it_would_be_stored(monkeypatch):
    model, drawn = tiny(), 2 * torch.rand(2, 1, 4, 4) - 1
    upsampler = seen_by(model.upsampler)
    monkeypatch.setattr(model.base_diffuser, "sample", lambda n, labels: drawn)
    model.sample(2)
    wanted = F.interpolate(to_float(to_uint8(drawn)), size=(8, 8), mode="bilinear")
    assert len(upsampler) == 10
    for given in upsampler:
        torch.testing.assert_close(given[:, 1:], wanted)


@pytest.mark.parametrize(
    ("config", "calls"),
    [
        ({"steps": 3, "base_steps": 7}, (7, 3)),
        ({"sampler": "ancestral", "timesteps": 6}, (6, 6)),
        ({"steps": 3, "base_steps": 4, "label_dropout": 0.1, "guidance": 2.0}, (8, 6)),
    ],
)
def test_a_sample_passes_through_the_base_then_through_the_upsampler(config, calls):
    model, found = tiny(num_classes=3, **config), []
    for name in ("base", "upsampler"):
        getattr(model, name).register_forward_hook(lambda *_, name=name: found.append(name))
    with torch.inference_mode():
        model.sample(2, torch.tensor([0, 2]))
    assert found == ["base"] * calls[0] + ["upsampler"] * calls[1] and model.nfe == len(found)


def test_labels_reach_both_stages():
    model, x = tiny(num_classes=2), images(4)
    small, found = model.small(x), {}
    for label in (0, 1):
        torch.manual_seed(0)
        labels = torch.full((4,), label)
        with torch.inference_mode():
            drawn = model.base_diffuser.sample(4, labels), model.upsampling(small).sample(4, labels)
            terms = model.bound_terms(x, labels)
        found[label] = (*drawn, terms["base L_t"], terms["upsampler L_t"])
    assert not any(torch.equal(one, other) for one, other in zip(found[0], found[1]))
    given, labels = [], torch.tensor([0, 1, 1, 0])
    for network in (model.base, model.upsampler):
        network.register_forward_hook(lambda _, inputs, __: given.append(inputs[2]))
    model.sample(4, labels)
    assert len(given) == 20 and all(torch.equal(seen, labels) for seen in given)
    dropping = tiny(num_classes=2, label_dropout=0.1)
    assert [net.label.table.num_embeddings for net in (dropping.base, dropping.upsampler)] == [3, 3]


def test_a_copy_of_a_model_predicts_by_its_own_weights():
    model = Cascade(DataSpec("toy", (1, 8, 8)), Cascade.Config(**Cascade.presets["tiny"]))
    twin, t = copy.deepcopy(model), torch.tensor([3, 7])
    for network in (twin.base, twin.upsampler):
        nn.init.ones_(network.head.bias)
    small, large = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 8, 8)
    for each, wanted in ((model, 0), (twin, 1)):
        assert each.base_diffuser.diffusion is each.base_process
        assert (each.base_diffuser.network(None)(small, t) == wanted).all()
        assert (each.upsampling(small).network(None)(large, t) == wanted).all()


# The second stage alone.


class Exact(nn.Module):
    """The best v for images that are Gaussian, with deviation `std`, about the small ones enlarged."""

    def __init__(self, process, std):
        super().__init__()
        self.process, self.std = process, std

    def forward(self, x, time, labels=None):
        x_t, mean = x.chunk(2, dim=1)
        t = (time * self.process.steps / 1000).round().long()
        signal, noise = (self.process.at(table, t, x) for table in (self.process.signal, self.process.noise))
        x0 = mean + self.std**2 * signal / (self.std**2 * signal**2 + noise**2) * (x_t - signal * mean)
        return (signal * x_t - x0) / noise


@pytest.mark.parametrize("sampler", [{"steps": 200, "eta": 1.0}, {"sampler": "ancestral"}])
def test_given_true_small_images_the_exact_second_stage_reproduces_their_mean(sampler):
    """Images that are Gaussian about three levels, a third each: area means and deviation of the samples."""
    model = tiny(timesteps=400, **sampler)
    model.upsampler = Exact(model.process, 0.1)
    levels = torch.tensor([40, 120, 215], dtype=torch.uint8).repeat(200)
    small = to_float(levels)[:, None, None, None].expand(-1, 1, 4, 4)
    torch.manual_seed(0)
    with torch.inference_mode():
        drawn = model.upsampling(small).sample(600)
    gap = F.avg_pool2d(drawn, 2) - small
    assert gap.view(200, 3, 4, 4).mean((0, 2, 3)).abs().max() < 0.005
    assert gap.std() == pytest.approx(0.05, rel=0.1)
    assert (drawn - small[:, :, :1, :1]).std() == pytest.approx(0.1, rel=0.1)


@pytest.mark.slow
def test_a_trained_second_stage_reproduces_the_mean_of_true_small_images():
    model, x = tiny(steps=25, base_steps=25).train(), images(600)
    (_, phase) = model.phases()
    for step in range(300):
        torch.manual_seed(step)
        phase.optimizer.zero_grad()
        model.loss("upsampler", Batch(x[torch.randint(500, (64,))])).backward()
        phase.optimizer.step()
    small = model.eval().small(x[500:])
    with torch.inference_mode():
        again = model.small(model.upsampling(small).sample(100))
    gap, spread = (again - small).square().mean().sqrt(), (small - small.roll(1, 0)).square().mean().sqrt()
    assert (again.mean((1, 2, 3)) - small.mean((1, 2, 3))).abs().mean() < 0.1 and gap < 0.25 * spread


# Noise on the small images.


def watched(model, monkeypatch):
    """A list that gets whatever the model enlarges from now on."""
    found, enlarged = [], model.enlarged
    monkeypatch.setattr(model, "enlarged", lambda small: found.append(small) or enlarged(small))
    return found


def test_the_upsampler_is_told_how_much_noise_its_small_images_have(monkeypatch):
    model, x = tiny(augmentation=0.4, small_noise=0.1), images(6).repeat(300, 1, 1, 1)
    found, small = watched(model, monkeypatch), model.small(x)
    with torch.no_grad():
        model.loss("upsampler", Batch(x))
        model.upsampling(small)
        model.sample(50)
    trained, given, sampled = found
    assert trained.shape == (1800, 2, 4, 4)
    told = trained[:, 1]
    assert torch.equal(told, told[:, :1, :1].expand_as(told)) and told.min() >= 0 and told.max() <= 0.4
    assert told.mean() == pytest.approx(0.2, abs=0.01) and told.std() == pytest.approx(0.4 / 12**0.5, abs=0.01)
    sure = told[:, 0, 0] > 0.02
    assert ((trained[:, 0] - small[:, 0]) / told)[sure].std() == pytest.approx(1, abs=0.03)
    assert (given[:, 1] == 0.1).all() and (sampled[:, 1] == 0.1).all()
    assert (given[:, 0] - small[:, 0]).std() == pytest.approx(0.1, abs=0.003)


def test_without_augmentation_small_images_are_whole(monkeypatch):
    plain, x = tiny(), images()
    found = watched(plain, monkeypatch)
    plain.loss("upsampler", Batch(x))
    assert torch.equal(found[0], plain.small(x))
    more = tiny(augmentation=0.4).upsampler.stem.in_channels - plain.upsampler.stem.in_channels
    assert more == plain.config.patch**2


# The classifier.

GUIDED = {"classifier": True, "classifier_share": 0.2, "base_share": 0.3}


def test_a_classifier_of_small_images_is_trained_before_the_base(tmp_path, digits):
    config = Cascade.Config(**Cascade.presets["tiny"] | GUIDED | {"batch_size": 8})
    given = {"config": config.model_dump(mode="json"), "train_config": config.of_role("train"), "conditional": True}
    trained, meter = train_toy(tmp_path, digits, Cascade, budget="10steps", **given)
    updates = {name: ledger.updates for name, ledger in meter.phases.items()}
    assert updates == {"classifier": 2, "base": 3, "upsampler": 5}
    seen = seen_by(trained.classifier)
    trained.loss("classifier", Batch(images(), torch.arange(6)))
    assert seen[0].shape == (6, 1, 4, 4)


def test_it_guides_the_base_alone():
    """A gradient counts as two calls; the bound is that of the unguided cascade."""
    labels, found = torch.tensor([0, 2]), {}
    for scale in (0.0, 3.0):
        model = tiny(num_classes=3, steps=3, base_steps=4, classifier_scale=scale, **GUIDED)
        calls = {name: seen_by(getattr(model, name)) for name in ("classifier", "base", "upsampler")}
        torch.manual_seed(1)
        with torch.no_grad():
            small = model.base_diffuser.sample(2, labels)
            torch.manual_seed(2)
            large = model.upsampling(rounded(images(2, (1, 4, 4)))).sample(2, labels)
            found[scale] = small, large, model.log_prob(images(2), labels)
        assert [len(seen) for seen in calls.values()][1:] == [4 + 16, 3 + 16]  # 16 of the bound
        assert len(calls["classifier"]) == (4 if scale else 0) and model.nfe == 7 + 2 * len(calls["classifier"])
        assert ("without guidance" in model.likelihood_note) == bool(scale)
    (small, large, bound), (led, same, again) = found.values()
    assert not torch.equal(small, led) and torch.equal(large, same) and torch.equal(bound, again)


@pytest.mark.slow
def test_a_guided_cascade_keeps_every_promise():
    few = {"batch_size": 8, "timesteps": 8, "steps": 2, "base_steps": 2, "bound_exact": 1, "bound_strata": 2}
    learned = {"objective": "hybrid", "variance": "learned", "sampler": "respaced", "classifier_scale": 2.0}
    config = Cascade.Config(**Cascade.presets["tiny"] | few | learned | GUIDED)
    assert [v for v in check_case(Case(Cascade, config, (1, 8, 8), "class")) if v.state == "FAIL"] == []


# The bound.


@torch.inference_mode()
def test_the_bound_is_that_of_the_small_image_and_that_of_the_image_given_it():
    model, x = tiny(), images(5)
    torch.manual_seed(0)
    parts = model.bound_terms(x)
    torch.manual_seed(0)
    small = model.small(x)
    wanted = [*model.base_diffuser.bound(small).values(), *model.upsampling(small).bound(x).values()]
    assert list(parts) == [f"{stage} {name}" for stage in ("base", "upsampler") for name in ("L_T", "L_t", "L_0")]
    assert all(torch.equal(found, term) for found, term in zip(parts.values(), wanted))
    torch.manual_seed(0)
    assert torch.equal(model.log_prob(x), -torch.stack(wanted).sum(0))
    assert torch.equal(parts["base L_T"], model.base_process.prior_term(small))
    assert torch.equal(parts["upsampler L_T"], model.process.prior_term(x))


@torch.inference_mode()
def test_terms_over_time_are_those_of_both_stages():
    model, x = tiny(), images(5)
    torch.manual_seed(0)
    times, both = model.bound_over_time(x)
    torch.manual_seed(0)
    small = model.small(x)
    first, base = model.base_diffuser.bound_over_time(small)
    second, upsampler = model.upsampling(small).bound_over_time(x)
    assert torch.equal(times, first) and torch.equal(first, second) and both.shape == (len(times), 5)
    assert torch.equal(both, base + upsampler)


@torch.inference_mode()
def test_the_bound_is_the_same_however_samples_are_drawn():
    found = []
    for sampler in ({"steps": 2, "base_steps": 3}, {"sampler": "ancestral"}):
        torch.manual_seed(0)
        found.append(tiny(**sampler).log_prob(images()))
    assert torch.equal(*found)


@pytest.mark.slow
@pytest.mark.parametrize("config", [{}, {"augmentation": 0.2, "small_noise": 0.05}], ids=["plain", "augmented"])
def test_after_training_the_bound_is_above_the_entropy_of_the_images_and_not_far(config):
    mixture = make_mixture((1, 8, 8), 10, 3, 6.0, 0)
    levels = torch.cat([torch.from_numpy(part) for part, _ in mixture.draw(5000, 1)]).view(-1, 1, 8, 8)
    model, x = tiny(widths=(16, 32), base_widths=(16, 32), bound_strata=12, **config).train(), to_float(levels)
    for phase in model.phases():
        for step in range(500):
            torch.manual_seed(step)
            phase.optimizer.zero_grad()
            model.loss(phase.name, Batch(x[torch.randint(4000, (64,))])).backward()
            phase.optimizer.step()
    torch.manual_seed(0)
    with torch.inference_mode():
        bits = -model.eval().log_prob(x[4000:4250]) / (64 * math.log(2))
    limit, error = mixture.entropy(), 3 * float(bits.std()) / len(bits) ** 0.5
    assert limit.bits_per_dim - limit.error - error < bits.mean() < 7


# The settings.


def test_the_bases_settings_are_the_cascades_with_its_own_in_their_place():
    config = Cascade.Config(base_widths=(8, 16, 32), base_steps=7, base_schedule="linear", dropout=0.3, factor=4)
    base = config.base
    assert (base.widths, base.steps, base.schedule, base.dropout) == ((8, 16, 32), 7, "linear", 0.0)
    assert (base.optimizer, base.timesteps, base.factor) == (config.optimizer, config.timesteps, 4)
    fields = Cascade.Config.model_fields
    assert {name.removeprefix("base_") for name in fields if name.startswith("base_")} == {*OWN, "share"}
    for name in OWN:
        own, namesake = fields[name], fields[f"base_{name}"]
        assert own.annotation == namesake.annotation and own.metadata == namesake.metadata
        assert Cascade.Config.role(name) == Cascade.Config.role(f"base_{name}")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"base_steps": 51}, "the base's steps: 51 is more than the 50 timesteps"),
        ({"steps": 51}, "error, steps: 51 is more than"),
        ({"base_attention": [2]}, "the base's attention: .2. names a resolution"),
        ({"base_heads": 3}, "the base's heads: 3 does not divide"),
        ({"base_schedule": "erase", "prediction": "eps"}, "the base's prediction: eps says nothing"),
        ({"base_share": 0}, "base_share"),
        ({"base_share": 1}, "base_share"),
        ({"base_share": math.nan}, "base_share"),
        ({"base_patch": 0}, "base_patch"),
        ({"base_widths": []}, "base_widths"),
        ({"factor": 3}, "factor"),
        ({"augmentation": -0.1}, "augmentation"),
        ({"classifier": True, "base_share": 0.9}, r"base_share: 0\.9 and classifier_share 0\.15 leave nothing"),
        ({"classifier_scale": 1.0}, "classifier_scale: 1 needs a model trained with a classifier"),
        ({"small_noise": 0.1}, "small_noise: 0.1 is more than the upsampler learns from, augmentation = 0"),
        ({"small_noise": math.nan, "augmentation": 1.0}, "small_noise"),
    ],
)
def test_wrong_settings_are_refused(config, message):
    with pytest.raises(ValidationError, match=message):
        tiny(**config)


def test_images_smaller_than_the_factor_are_refused():
    with pytest.raises(ValueError, match="factor: 8 is more than the 4 pixels of a side"):
        tiny((1, 4, 9), factor=8)


def test_an_option_of_both_has_an_effect_if_it_has_one_on_either():
    def unused(name, **config):
        return Cascade.Config(**config).unused(name)

    assert unused("beta_start") == "schedule = cosine"
    assert unused("beta_start", base_schedule="linear") == unused("beta_start", schedule="linear") == ""
    assert unused("base_heads", base_head_channels=8) == "base_head_channels = 8"
    assert unused("heads", head_channels=8) == "head_channels = 8" and unused("heads", base_head_channels=8) == ""
    assert unused("base_steps", sampler="ancestral") == unused("steps", sampler="ancestral") == "sampler = ancestral"


# The published networks.

COUNTS = {
    "paper-adm-u": (256, 295_904_454, 311_795_910, 0),
    "paper-adm-u-512": (512, 421_529_606, 308_835_270, 0),
    "paper-adm-g-u-512": (512, 421_529_606, 308_835_270, 42_568_040),
}
each_preset = pytest.mark.parametrize("preset", COUNTS)


@each_preset
def test_published_networks_have_their_parameters(preset):
    side, *wanted = COUNTS[preset]
    with torch.device("meta"):
        whole = Cascade(DataSpec("toy", (3, side, side), 1000), Cascade.Config(**Cascade.presets[preset]))
    networks = whole.base, whole.upsampler, whole.classifier or nn.Module()
    assert [count(network) for network in networks] == wanted
    assert whole.base_diffuser.data.shape == (3, side // 4, side // 4)
    assert {name for name in Cascade.presets if "paper" in name} == set(COUNTS)


@each_preset
def test_the_same_structure_with_fewer_channels_trains_and_samples(preset):
    given = Cascade.presets[preset]
    narrow = {key: tuple(width // 16 for width in given[key]) for key in given if key.endswith("widths")}
    narrow |= {key: given[key] // 16 for key in given if key.endswith("head_channels")}
    config = Cascade.Config(**given | narrow | {"timesteps": 3, "steps": 2, "base_steps": 2})
    torch.manual_seed(0)
    update(Cascade(DataSpec("toy", (3, 16, 16), 1000), config), (3, 16, 16))
