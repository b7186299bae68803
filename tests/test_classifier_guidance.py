"""Guidance by the gradient of a classifier (Dhariwal & Nichol 2021): known answers on mixtures, and in both models."""

import math
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from test_estimate import planned, session_of, trained
from toys import train_toy

from genbench import Batch, DataSpec
from genbench.conformance.case import Case
from genbench.data.condition_plan import ConditionPlan
from genbench.images import to_float
from genbench.metering.flops import FlopCounter
from genbench.metering.meter import Meter
from genbench.nets import UNetSpec
from genbench.planning.config import make_experiment
from genbench.planning.unused import unused_words
from genbench.running.defaults import load_plugins
from genbench.running.sample import draw
from genbench.training.compilation import networks
from genbench.walks import end_of
from genbench_ddpm import DDPM
from genbench_ddpm.classifier import AttentionPool, UNetClassifier
from genbench_ddpm.diffusion import Diffusion, cosine_betas, erasing_betas, linear_betas
from genbench_ddpm.guidance import class_guide, steered
from genbench_ddpm.samplers import SAMPLERS, ancestral, ddim, kept_times, respaced
from genbench_ldm import LatentDiffusion

each_model = pytest.mark.parametrize("model", [DDPM, LatentDiffusion], ids=lambda model: model.name)
each_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


# Mixtures of Gaussians, whose classifier is known.


CENTRES, DEVIATION = torch.tensor([-1.0, 0.2, 1.0], dtype=torch.float64), 0.3


class Mixture:
    """Of three Gaussians, equally likely, on a process: what the best network and the best classifier say of x_t."""

    def __init__(self, variance="beta", steps=200):
        self.process = Diffusion(linear_betas(steps, 1e-4, 0.1), "x0", variance)

    def parts(self, x, t):
        """The signal at t, (B, 1), and the variance of each Gaussian's x_t."""
        signal, noise = self.process.at(self.process.signal, t, x), self.process.at(self.process.noise, t, x)
        return signal, DEVIATION**2 * signal**2 + noise**2

    def classify(self, x, t):
        """Logits (B, 3) of x_t (B, 1)."""
        signal, total = self.parts(x, t)
        return -((x - signal * CENTRES) ** 2) / total / 2

    def means(self, x, t):
        """E[x_0 | x_t, y], (B, 3), for every y."""
        signal, total = self.parts(x, t)
        return CENTRES + DEVIATION**2 * signal / total * (x - signal * CENTRES)

    def unconditional(self, x, t):
        return (self.classify(x, t).softmax(1) * self.means(x, t)).sum(1, keepdim=True)

    def conditional(self, label):
        return lambda x, t: self.means(x, t)[:, label : label + 1]

    def pull(self, x, t, label):
        """The gradient of log p(y | x_t): the score of a class less that of all, (B, 1)."""
        signal, total = self.parts(x, t)
        shares = self.classify(x, t).softmax(1)
        return signal / total * (CENTRES[label] - (shares * CENTRES).sum(1, keepdim=True))

    def guide(self, label, n, scale):
        return class_guide(self.classify, torch.full((n,), label), scale)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_the_guide_is_the_gradient_of_the_log_probability_of_the_class(label):
    mixture, x = Mixture(), torch.randn(50, 1, dtype=torch.float64)
    for step in (1, 40, 200):
        t = torch.full((50,), step)
        found = mixture.guide(label, 50, 2.5)(x, t)
        torch.testing.assert_close(found, 2.5 * mixture.pull(x, t, label))
        assert not found.requires_grad


@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("label", [0, 1])
def test_a_steered_estimate_is_shifted_to_the_mean_of_the_class(scale, label):
    """At scale 1 it is E[x_0 | x_t, y]; as noise, it is the other's less sqrt(1 - alpha_bar) s grad log p(y | x_t)."""
    mixture, x = Mixture(), torch.randn(50, 1, dtype=torch.float64)
    process = mixture.process
    plain = process.denoiser(mixture.unconditional)
    guided = steered(process, plain, mixture.guide(label, 50, scale))
    for step in (1, 40, 200):
        t = torch.full((50,), step)
        before, after = plain(x, t), guided(x, t)
        torch.testing.assert_close(after.x0, before.x0 + scale * (mixture.conditional(label)(x, t) - before.x0))
        signal, noise = process.signal[step], process.noise[step]
        eps = [(x - signal * x0) / noise for x0 in (before.x0, after.x0)]
        torch.testing.assert_close(eps[1], eps[0] - noise * scale * mixture.pull(x, t, label))
        assert torch.equal(after.variance, before.variance)


@pytest.mark.parametrize(("betas", "led"), [(cosine_betas, False), (erasing_betas, False), (linear_betas, True)])
def test_pure_noise_is_led_nowhere(betas, led):
    """By a classifier that has not learned to say nothing: its gradient is 1 everywhere. What is left of x_0 is led."""
    process, x = Diffusion(betas(1000), "x0"), torch.randn(9, 1)
    denoise = process.denoiser(lambda x, t: x)
    shifts = []
    for step in (process.steps, process.steps // 2):
        t = torch.full((9,), step)
        shifts.append(steered(process, denoise, lambda x, t: torch.ones_like(x))(x, t).x0 - denoise(x, t).x0)
    assert torch.isfinite(torch.cat(shifts)).all()
    assert (shifts[0] != 0).all() == led and (shifts[0] == 0).all() != led
    assert (shifts[1] > 0).all()


@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim_led_by_the_classifier_draws_what_the_conditional_model_draws(label, eta):
    mixture = Mixture()
    process, drawn = mixture.process, []
    guided = steered(process, process.denoiser(mixture.unconditional), mixture.guide(label, 300, 1.0))
    for denoise in (guided, process.denoiser(mixture.conditional(label))):
        torch.manual_seed(0)
        drawn.append(end_of(ddim(process, denoise, torch.randn(300, 1, dtype=torch.float64), steps=50, eta=eta)))
    torch.testing.assert_close(*drawn, rtol=1e-6, atol=1e-6)
    assert float(drawn[0].mean()) == pytest.approx(float(CENTRES[label]), abs=0.1)


@pytest.mark.parametrize("variance", ["beta", "posterior", "learned"])
@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("steps", [None, 20])
def test_every_ancestral_mean_is_shifted_by_sigma_times_the_gradient(variance, scale, steps, monkeypatch):
    """On the whole process and on a shorter one, whose Sigma it then is; noise is left out."""
    mixture = Mixture(variance)
    process, x, label = mixture.process, torch.randn(40, 1, dtype=torch.float64), 2
    times = [0, *(range(1, 201) if steps is None else kept_times(200, steps))]
    shorter = process.respaced(times[1:])

    def network(x, t):
        x0 = mixture.unconditional(x, t)
        return torch.cat([x0, 0.3 * torch.ones_like(x0)], 1) if process.learned else x0

    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    options = {"guide": mixture.guide(label, 40, scale)} | ({} if steps is None else {"steps": steps})
    walk = [*(ancestral if steps is None else respaced)(process, process.denoiser(network), x, **options)]
    fraction = torch.full((40, 1), 0.3, dtype=torch.float64) if process.learned else None
    for (now, x), (then, found) in pairwise(walk):
        place, t = torch.full((40,), times.index(now)), torch.full((40,), now)
        assert times.index(then) == times.index(now) - 1
        mean = shorter.posterior_mean(mixture.unconditional(x, t), x, place)
        sigma2 = shorter.variance(x, place, fraction)
        torch.testing.assert_close(found, mean + sigma2 * scale * mixture.pull(x, t, label))


def test_ancestral_steps_led_by_the_classifier_draw_the_class():
    """Small steps, so that a mean shifted by Sigma times the gradient is that of the conditional model."""
    mixture = Mixture("beta", steps=400)
    process = mixture.process
    torch.manual_seed(0)
    noise = torch.randn(4000, 1, dtype=torch.float64)
    for walk, options in ((ancestral, {}), (respaced, {"steps": 200})):
        options = options | {"guide": mixture.guide(1, 4000, 1.0)}
        drawn = end_of(walk(process, process.denoiser(mixture.unconditional), noise, **options))
        assert float(drawn.mean()) == pytest.approx(float(CENTRES[1]), abs=0.05)
        assert float(drawn.std()) == pytest.approx(DEVIATION, rel=0.1)


def test_a_larger_scale_sharpens_the_class():
    mixture, found = Mixture(), []
    process = mixture.process
    noise = torch.randn(2000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for scale in (0.3, 1.0, 3.0, 10.0):
        guided = steered(process, process.denoiser(mixture.unconditional), mixture.guide(1, 2000, scale))
        drawn = end_of(ddim(process, guided, noise, steps=50))
        ends = torch.full((2000,), 1)
        found.append(float(mixture.classify(drawn, ends).softmax(1)[:, 1].mean()))
    assert found == sorted(found) and found[0] < 0.8 and found[-1] > 0.9


def test_estimates_of_images_stay_in_their_range():
    mixture, x, t = Mixture(), torch.randn(50, 1, dtype=torch.float64), torch.full((50,), 200)
    plain, guide = mixture.process.denoiser(mixture.unconditional), mixture.guide(2, 50, 50.0)
    for clip in (False, True):
        largest = steered(mixture.process, plain, guide, clip)(x, t).x0.abs().max()
        assert (largest <= 1) == clip


# The models


def tiny(model, num_classes=3, **config):
    """The preset `tiny` with a classifier and no branch at zero."""
    torch.manual_seed(0)
    settings = {"steps": 3, "classifier": True, "classifier_widths": (8, 8), **config}
    built = model(DataSpec("toy", (1, 8, 8), num_classes), model.Config(**model.presets["tiny"] | settings))
    for parameter in built.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return built.eval()


@torch.no_grad()
def drawn_by(model, label=0):
    torch.manual_seed(1)
    return model.sample(2, torch.full((2,), label))


def images(n=6):
    return to_float(torch.randint(0, 256, (n, 1, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8))


@each_model
@each_sampler
def test_a_scale_of_nought_is_the_model_without_a_classifier_and_every_sampler_follows_another(model, sampler):
    options = {"sampler": sampler, "timesteps": 4}
    plain, guided = tiny(model, **options, classifier=False), tiny(model, **options)
    assert not plain.load_state_dict(guided.state_dict(), strict=False).missing_keys
    wanted = drawn_by(plain)
    assert torch.equal(drawn_by(guided), wanted)
    led = tiny(model, **options, classifier_scale=5.0)
    assert not torch.equal(drawn_by(led), wanted)
    assert plain.nfe == guided.nfe


@each_model
@each_sampler
@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_nfe_counts_a_gradient_as_two(model, sampler, guidance):
    """It can be had together with guidance without a classifier, whose calls it adds to."""
    both = {"label_dropout": 0.2, "guidance": guidance, "classifier_scale": 1.0}
    guided, calls, asked = tiny(model, sampler=sampler, timesteps=4, **both), [], []
    guided.net.register_forward_hook(lambda *_: calls.append(1))
    guided.classifier.register_forward_hook(lambda *_: asked.append(1))
    drawn_by(guided)
    steps = SAMPLERS[sampler].calls(4 if sampler == "ancestral" else 3)
    assert (len(calls), len(asked)) == ((1 if guidance == 1 else 2) * steps, steps)
    assert guided.nfe == len(calls) + 2 * len(asked) + (model is LatentDiffusion)


@each_model
def test_the_classifier_moves_what_guidance_without_one_has_moved(model):
    kinds = ({}, {"guidance": 2.0}, {"classifier_scale": 2.0}, {"guidance": 2.0, "classifier_scale": 2.0})
    found = [drawn_by(tiny(model, label_dropout=0.2, **kind)) for kind in kinds]
    assert not any(torch.equal(found[i], found[j]) for i in range(4) for j in range(i))


@each_model
def test_the_likelihood_is_that_of_the_unguided_model_and_says_so(model):
    found = []
    for scale in (0.0, 4.0):
        guided = tiny(model, classifier_scale=scale)
        torch.manual_seed(2)
        with torch.no_grad():
            found.append(guided.log_prob(images(), torch.arange(6) % 3))
        assert ("without guidance" in guided.likelihood_note) == (scale > 0)
    assert torch.equal(*found)
    assert "without guidance" in tiny(model, label_dropout=0.1, guidance=2.0).likelihood_note


@each_model
def test_the_classifier_is_a_phase_before_that_of_the_network(model):
    built = tiny(model, classifier_share=0.2, classifier_learning_rate=0.004)
    found = {phase.name: phase for phase in built.phases()}
    begin = 0.25 if model is LatentDiffusion else 0.0
    last = "diffusion" if model is LatentDiffusion else "train"
    assert list(found) == ["autoencoder", "classifier", last][model is not LatentDiffusion :]
    classifier, network = found["classifier"], found[last]
    assert classifier.span == (begin, begin + 0.2) and network.span == (begin + 0.2, 1)
    assert {id(p) for p in classifier.parameters} == {id(p) for p in built.classifier.parameters()}
    assert {id(p) for p in network.parameters} == {id(p) for p in built.net.parameters()}
    assert classifier.optimizer.param_groups[0]["lr"] == 0.004
    assert {group["weight_decay"] for group in classifier.optimizer.param_groups} == {0.05}
    assert {group["weight_decay"] for group in network.optimizer.param_groups} == {0.0}
    assert [classifier.factor(share, 0) for share in (0.0, 0.25, 1.0)] == [1, 0.75, 0]
    without = tiny(model, classifier=False)
    assert without.classifier is None and "classifier" not in {phase.name for phase in without.phases()}


@each_model
def test_it_learns_the_class_of_noised_images_without_dropping_labels(model, monkeypatch):
    built, seen = tiny(model, label_dropout=0.9, timesteps=20), []
    for layer in (built.classifier.head[-1].weight, built.classifier.head[-1].bias):
        layer.data.zero_()
    labels, class_logits = torch.arange(2000) % 3, built.diffuser.class_logits
    monkeypatch.setattr(built.diffuser, "class_logits", lambda x, t: seen.append((x, t)) or class_logits(x, t))
    told = built.loss("classifier", Batch(images(1).expand(2000, -1, -1, -1), labels))
    assert float(told["loss"].detach()) == pytest.approx(math.log(3), rel=1e-5)
    assert float(told["accuracy"]) == pytest.approx(1 / 3, abs=0.01)  # says class 0 of all
    ((x, t),) = seen
    assert t.bincount(minlength=21).tolist() == [0] + [100] * 20
    late, early = x[t == 20], x[t == 1]
    assert float(late.std(0).mean()) == pytest.approx(1, abs=0.15)
    assert model is LatentDiffusion or early.std(0).mean() < 0.5  # latents are drawn anew each time
    told["loss"].backward()
    assert {n for n, p in built.named_parameters() if p.grad is not None} == {
        f"classifier.{name}" for name, _ in built.classifier.named_parameters()
    }


@each_model
def test_training_teaches_it(model):
    """Dark images and bright ones: told apart at most times, and noise is not."""
    built = tiny(model, num_classes=2, timesteps=20, classifier_learning_rate=0.01).train()
    labels = torch.arange(64) % 2
    levels = (60 + 130 * labels.view(-1, 1, 1, 1) + torch.randint(0, 60, (64, 1, 8, 8))).to(torch.uint8)
    batch, (phase,) = Batch(to_float(levels), labels), [p for p in built.phases() if p.name == "classifier"]
    with torch.no_grad():
        built.prepare("classifier", batch)
    rights = []
    for step in range(60):
        torch.manual_seed(step)
        phase.optimizer.zero_grad()
        told = built.loss("classifier", batch)
        told["loss"].backward()
        phase.optimizer.step()
        rights.append(float(told["accuracy"]))
    assert sum(rights[-10:]) / 10 > max(0.75, sum(rights[:5]) / 5)


def test_latents_have_their_scale_before_the_classifier_sees_them():
    built, batch = tiny(LatentDiffusion), Batch(images(64), torch.arange(64) % 3)
    with torch.no_grad():
        built.prepare("autoencoder", batch)
        assert built.scale == 1
        built.prepare("classifier", batch)
        scale = float(built.scale)
        built.prepare("diffusion", batch)
    assert scale != 1 and built.scale == scale


def test_the_meter_books_the_classifier_apart(digits, tmp_path):
    config = DDPM.Config(**DDPM.presets["tiny"] | {"batch_size": 8, "classifier": True, "classifier_share": 0.25})
    plain = {"config": config.model_dump(mode="json"), "conditional": True}
    built = DDPM(digits.spec("class"), config)
    before = built.classifier.head[-1].weight.detach().clone()
    trained, meter = train_toy(tmp_path, digits, DDPM, Meter(torch.device("cpu")), built, budget="8steps", **plain)
    assert {name: ledger.updates for name, ledger in meter.phases.items()} == {"classifier": 2, "train": 6}
    assert all(ledger.images == 8 * ledger.updates and ledger.flops > 0 for ledger in meter.phases.values())
    assert meter.phases["classifier"].seconds > 0
    assert not torch.equal(trained.classifier.head[-1].weight, before)


@pytest.mark.parametrize("pool", ["mean", "attention"])
def test_the_loop_of_the_harness_trains_all_of_it(pool):
    """Within three updates."""
    few = {"batch_size": 8, "timesteps": 8, "steps": 2, "classifier": True, "classifier_share": 0.5}
    config = DDPM.Config(**DDPM.presets["tiny"] | few | {"classifier_pool": pool, "classifier_scale": 1.0})
    case = Case(DDPM, config, (1, 8, 8), "class")
    before, after = case.build().classifier.state_dict(), case.trained.classifier.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert case.sample(case.trained).isfinite().all()


# The network


@torch.no_grad()
def test_attention_pooling_by_hand():
    """The mean is a token more; it alone asks; heads of two channels."""
    torch.manual_seed(0)
    pool, x = AttentionPool(4, 5, 6, heads=2), torch.randn(3, 4, 2, 3)
    tokens = torch.cat([x.mean((2, 3))[:, None], x.flatten(2).transpose(1, 2)], 1) + pool.positions
    q, k, v = pool.qkv(tokens).chunk(3, dim=2)
    heads = []
    for part in (slice(0, 2), slice(2, 4)):
        weights = torch.softmax(q[:, :1, part] @ k[..., part].mT / math.sqrt(2), dim=2)
        heads.append((weights @ v[..., part])[:, 0])
    torch.testing.assert_close(pool(x), pool.out(torch.cat(heads, 1)))
    assert pool.positions.shape == (7, 4)


@torch.no_grad()
@pytest.mark.parametrize("pool", ["mean", "attention"])
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (7, 13)])
@pytest.mark.parametrize("patch", [1, 2])
def test_it_takes_images_of_any_size_and_sees_noise_and_time(pool, size, patch):
    spec = UNetSpec(1, 4, (8, 12, 8), 1, (2,), patch=patch, resample=True)
    net = UNetClassifier(spec, size, pool).eval()
    torch.manual_seed(0)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, time = torch.randn(3, 1, *size), torch.tensor([1.0, 500.0, 1000.0])
    out = net(x, time)
    assert out.shape == (3, 4) and out.std() > 0
    assert not torch.allclose(net(x + 0.5, time), out) and not torch.allclose(net(x, time.flip(0)), out)
    torch.testing.assert_close(net(x[1:2], time[1:2]), out[1:2], rtol=1e-4, atol=1e-4)


def test_muon_leaves_its_positions_to_adamw():
    built = tiny(DDPM, optimizer="muon", classifier_pool="attention", classifier_widths=(16, 16))
    phase = next(phase for phase in built.phases() if phase.name == "classifier")
    by_adamw, by_muon = ({id(p) for p in group["params"]} for group in phase.optimizer.param_groups)
    assert id(built.classifier.head.positions) in by_adamw
    assert id(built.classifier.head.qkv.weight) in by_muon


# What makes no sense


@each_model
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"classifier": False, "classifier_scale": 2.0}, "classifier_scale: 2 needs a model trained with a classifier"),
        ({"classifier_scale": -1.0}, "classifier_scale"),
        ({"classifier_scale": 1e9}, "classifier_scale"),
        ({"classifier_scale": math.nan}, "classifier_scale"),
        ({"classifier_share": 0.0}, "classifier_share"),
        ({"classifier_share": 1.0}, "classifier_share"),
        ({"classifier_widths": ()}, "classifier_widths"),
        ({"classifier_widths": (0,)}, "classifier_widths"),
        ({"classifier_widths": (7, 8)}, "classifier_widths: 7 is odd"),
        ({"classifier_attention": (2,)}, r"classifier_attention: \[2\] names a resolution that is not in 0..1"),
        ({"classifier_head_channels": 3}, "classifier_head_channels: 3 does not divide every one of the widths"),
        ({"classifier_learning_rate": 0.0}, "classifier_learning_rate"),
    ],
)
def test_bad_options_are_refused(model, config, message):
    with pytest.raises(ValidationError, match=message):
        tiny(model, **config)


def test_a_classifier_needs_labels_and_leaves_something_to_the_network():
    for model in (DDPM, LatentDiffusion):
        with pytest.raises(ValueError, match="classifier: true needs labels, and this job is not conditional"):
            tiny(model, num_classes=0)
    with pytest.raises(ValidationError, match=r"classifier_share: 0\.8 and ae_share 0\.25 leave nothing"):
        tiny(LatentDiffusion, classifier_share=0.8)
    assert LatentDiffusion.Config(classifier_share=0.8).classifier is False  # where there is none, its share is nothing
    assert tiny(DDPM, classifier_scale=1.0, schedule="erase", sampler="ancestral").nfe == 150


def test_options_of_a_classifier_that_is_not_there_are_told():
    settings = ("ddpm.classifier_share=0.3", "ldm.classifier_pool=mean")
    experiment = make_experiment(None, {}, ("ddpm", "ldm"), settings, ())
    assert unused_words(experiment, load_plugins()) == [
        "ddpm: classifier_share has no effect with classifier = False",
        "ldm: classifier_pool has no effect with classifier = False",
    ]


def test_a_plan_counts_what_training_and_guided_sampling_spend(tmp_path):
    options = ["preset=tiny", "classifier=true", "classifier_share=0.5", "classifier_scale=1.0", "steps=3"]
    session = session_of("ddpm", *options, budget="130images", conditional=True)
    found, job = planned(session), session.jobs[0]
    model, meter, _ = trained(session, tmp_path)
    assert {name: phase.flops_per_update for name, phase in found.phases.items()} == {
        name: ledger.flops / ledger.updates for name, ledger in meter.phases.items()
    }
    assert list(found.phases) == ["classifier", "train"] and found.train_flops == meter.flops
    with FlopCounter() as counter:
        draw(job, model.eval(), ConditionPlan.of(session.datasets[job.dataset], job.kind, 100), 0, 100)
    assert found.sample_flops == pytest.approx(counter.flops, rel=1e-12) and found.sample_nfe == 9


def test_both_networks_are_compiled():
    built = tiny(DDPM)
    assert [id(module) for module in networks(built)] == [id(built.net), id(built.classifier)]
