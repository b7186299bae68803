"""Classifier-free guidance: labels dropped in training, and samples led towards their class (Ho & Salimans 2022)."""

import pytest
import torch
from pydantic import ValidationError

from genbench import Batch, DataSpec
from genbench.images import to_float
from genbench.planning.config import Experiment
from genbench.planning.plan import make_jobs
from genbench.planning.shadow import check_models
from genbench.records.job import Runtime
from genbench.running.defaults import load_plugins
from genbench.support.errors import BadInput
from genbench.walks import end_of
from genbench_ddpm import DDPM
from genbench_ddpm.diffusion import Diffusion, linear_betas
from genbench_ddpm.samplers import ddim
from genbench_ldm import LatentDiffusion

CLASSES = 3
each_model = pytest.mark.parametrize("model", [DDPM, LatentDiffusion], ids=lambda model: model.name)
each_prediction = pytest.mark.parametrize("prediction", ["eps", "x0", "v", "mean"])


def tiny(model, num_classes=CLASSES, **config):
    """The preset `tiny` with a null class and no branch at zero; the same weights for every sampling option."""
    torch.manual_seed(0)
    settings = {"label_dropout": 0.2, "steps": 3, **config}
    built = model(DataSpec("toy", (1, 8, 8), num_classes), model.Config(**model.presets["tiny"] | settings))
    for parameter in built.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return built.eval()


@torch.inference_mode()
def drawn(model, label=0):
    torch.manual_seed(1)
    return model.sample(2, torch.full((2,), label))


def images(n=4):
    return to_float(torch.randint(0, 256, (n, 1, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8))


@each_model
@pytest.mark.parametrize("sampler", [{"steps": 3}, {"sampler": "ancestral", "timesteps": 4, "steps": 1}])
def test_a_scale_of_one_is_the_conditional_model(model, sampler, monkeypatch):
    wanted = drawn(tiny(model, **sampler, guidance=1.0))
    assert not torch.equal(drawn(tiny(model, **sampler, guidance=2.0)), wanted)
    plain = tiny(model, **sampler)
    monkeypatch.setattr(plain.diffuser, "guided", lambda labels: plain.diffuser.network(labels))
    assert torch.equal(drawn(plain), wanted)


@each_model
def test_a_scale_of_nought_does_not_depend_on_the_label(model):
    assert torch.equal(*(drawn(tiny(model, guidance=0.0), label) for label in (0, 2)))
    assert not torch.equal(*(drawn(tiny(model, guidance=0.5), label) for label in (0, 2)))


@each_model
def test_a_scale_of_nought_is_the_model_of_the_null_class(model):
    assert torch.equal(drawn(tiny(model, guidance=0.0)), drawn(tiny(model), label=CLASSES))


@each_model
@pytest.mark.parametrize("sampler", [{"steps": 3}, {"sampler": "ancestral", "timesteps": 4, "steps": 1}])
def test_nfe_counts_both_calls(model, sampler):
    for guidance, factor in ((1.0, 1), (1.5, 2)):
        guided, calls = tiny(model, **sampler, guidance=guidance), []
        guided.net.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        drawn(guided)
        steps = 4 if "sampler" in sampler else 3
        assert len(calls) == factor * steps and guided.nfe == len(calls) + (model is LatentDiffusion)


@each_model
def test_the_likelihood_is_that_of_the_unguided_model(model):
    found = []
    for guidance in (1.0, 4.0):
        torch.manual_seed(2)
        with torch.inference_mode():
            found.append(tiny(model, guidance=guidance).log_prob(images(), torch.arange(4) % CLASSES))
    assert torch.equal(*found)


@each_prediction
def test_guidance_moves_samples_towards_their_class_and_is_the_same_for_every_prediction(prediction):
    """Two classes at -1 and 1 with deviation 0.3, and their mixture: with s share and mean of the class grow."""
    process, found = Diffusion(linear_betas(200, 1e-4, 0.1), prediction), []

    def network(centres):
        def predict(x, t):
            signal, noise = process.at(process.signal, t, x), process.at(process.noise, t, x)
            total = 0.09 * signal**2 + noise**2
            means = [centre + 0.09 * signal / total * (x - signal * centre) for centre in centres]
            weights = torch.softmax(torch.stack([-((x - signal * c) ** 2) / total / 2 for c in centres]), dim=0)
            x0 = (weights * torch.stack(means)).sum(0)
            return process.target(x0, (x - signal * x0) / noise, t)

        return predict

    torch.manual_seed(0)
    noise = torch.randn(4000, 1, dtype=torch.float64)
    for scale in (0.0, 1.0, 2.0, 4.0):
        guided = process.guided(network([1.0]), network([-1.0, 1.0]), scale)
        found.append(end_of(ddim(process, process.denoiser(guided), noise, steps=50)))
    shares, means = [float((x > 0).double().mean()) for x in found], [float(x.mean()) for x in found]
    assert shares[0] == pytest.approx(0.5, abs=0.03) and min(shares[1:]) > 0.99
    assert means[1] == pytest.approx(1, abs=0.03) and means == sorted(means) and means[3] > means[1] + 0.02
    process = Diffusion(linear_betas(200, 1e-4, 0.1), "eps")
    guided = process.guided(network([1.0]), network([-1.0, 1.0]), 4.0)
    torch.testing.assert_close(end_of(ddim(process, process.denoiser(guided), noise, steps=50)), found[3])


def test_a_learned_variance_is_the_conditional_models():
    process = Diffusion(linear_betas(10), "eps", "learned")
    asked = [lambda x, t, p=p: torch.cat([p * x, p * torch.ones_like(x)], dim=1) for p in (0.5, 0.1)]
    x, t = torch.randn(3, 2), torch.full((3,), 5)
    prediction, fraction = process.guided(*asked, 3.0)(x, t).chunk(2, dim=1)
    torch.testing.assert_close(prediction, (0.1 + 3 * 0.4) * x)
    assert torch.equal(fraction, torch.full_like(x, 0.5))


@each_model
def test_labels_are_dropped_in_training_at_the_rate(model, monkeypatch):
    dropping, seen = tiny(model, label_dropout=0.3), []
    monkeypatch.setattr(dropping.diffuser, "network", lambda labels: seen.append(labels) or (lambda x, t: 0 * x))
    labels = torch.arange(3000) % CLASSES
    phase = dropping.phases()[-1].name
    dropping.loss(phase, Batch(images(1).expand(3000, -1, -1, -1), labels))
    dropped = seen[0] == CLASSES
    assert dropped.double().mean() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(seen[0][~dropped], labels[~dropped])
    assert dropped[labels == 0].any() and dropped[labels == 2].any()


@each_model
def test_without_dropout_there_is_no_null_class_and_no_other_draw(model):
    plain = tiny(model, label_dropout=0.0)
    assert plain.net.label.table.num_embeddings == CLASSES
    assert tiny(model).net.label.table.num_embeddings == CLASSES + 1
    labels = torch.arange(4)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert plain.config.kept(labels, CLASSES) is labels and torch.equal(torch.get_rng_state(), state)
    assert tiny(model, num_classes=0).net.label.table is None
    assert tiny(model).config.kept(None, 0) is None


@each_model
def test_guidance_needs_dropout_and_labels(model, digits, tmp_path):
    with pytest.raises(ValidationError, match="guidance: 2 needs a model trained with label_dropout"):
        tiny(model, guidance=2.0, label_dropout=0.0)
    with pytest.raises(ValueError, match="guidance: 2 needs a condition, and this job is not conditional"):
        tiny(model, num_classes=0, guidance=2.0)
    with pytest.raises(ValueError, match="context: 4 needs labels"):
        tiny(model, num_classes=0, context=4)
    choice = {"name": model.name, "preset": "tiny", "config": {"guidance": 2.0, "label_dropout": 0.1}}
    plugins, datasets = load_plugins(), {"digits": digits}
    for conditional in (False, True):
        words = {"models": (choice,), "budget": "2steps", "samples": 20, "conditional": conditional}
        jobs = make_jobs(Experiment.model_validate(words), plugins, [digits], Runtime(out=tmp_path))
        if conditional:
            check_models(jobs, plugins, datasets)
            assert jobs[0].sample_config["guidance"] == 2.0
        else:
            with pytest.raises(BadInput, match=f"model '{model.name}' .*'digits': guidance: 2 needs a condition"):
                check_models(jobs, plugins, datasets)
