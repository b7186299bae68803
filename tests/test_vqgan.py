"""First stages with a codebook: quantisation by hand, codes that stay alive, the critic's weight, published sizes."""

import math

import pytest
import torch
from finished import record_of, run_of
from test_estimate import planned, session_of
from torch import nn

from genbench import Batch, DataSpec
from genbench.capabilities import capabilities
from genbench.images import to_float
from genbench.training.phases import give_gradients
from genbench_ldm import LatentDiffusion, codebook
from genbench_ldm.codebook import Codebook, codebook_terms, straight_through
from genbench_ldm.critic import PatchCritic, adaptive_weight, smallest_side
from genbench_ldm.vqgan import VQGAN

TINY = VQGAN.presets["tiny"]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def built(shape=(1, 8, 8), **config) -> VQGAN:
    torch.manual_seed(0)
    return VQGAN(DataSpec("toy", shape), VQGAN.Config(**TINY | config))


def on_codebook(shape=(1, 8, 8), **config) -> LatentDiffusion:
    """`ldm` on a first stage with a codebook."""
    torch.manual_seed(0)
    tiny = LatentDiffusion.presets["tiny"] | {name: TINY[name] for name in ("codes", "revive", "critic_layers")}
    return LatentDiffusion(DataSpec("toy", shape), LatentDiffusion.Config(**tiny | {"first_stage": "vq"} | config))


def images(n=16, shape=(1, 8, 8), seed=1):
    """Smooth ones, as bin centres."""
    coarse = torch.rand(n, shape[0], 2, 2, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, shape[1:], mode="bilinear")
    return to_float((smooth * 255).to(torch.uint8))


def codebook_of(vectors) -> Codebook:
    vectors = torch.tensor(vectors)
    book = Codebook(*vectors.shape)
    book.learned.data.copy_(vectors)
    return book


# Quantisation


def test_the_nearest_vector_is_taken_at_every_place():
    book = codebook_of([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    latents = torch.tensor([[0.4, 0.6, 0.1], [0.1, 0.1, 1.1]]).view(1, 2, 1, 3)
    codes = book.nearest(latents)
    assert codes.tolist() == [[[0, 1, 2]]]
    assert book.look_up(codes)[0, :, 0].T.tolist() == [[0, 0], [1, 0], [0, 2]]


def test_the_nearest_vectors_are_those_however_many_distances_fit_into_memory(monkeypatch):
    book, latents = Codebook(7, 3), torch.randn(2, 3, 4, 5)
    whole = book.nearest(latents)
    monkeypatch.setattr(codebook, "MOST_DISTANCES", 7 * 3)
    assert torch.equal(book.nearest(latents), whole)


def test_its_warm_up_is_that_of_the_first_phase_alone():
    config = VQGAN.Config(**{**VQGAN.presets["tiny"], "warmup": 7, "adversarial": 0.5, "critic_layers": 1})
    phases = {phase.name: phase for phase in VQGAN(DataSpec("toy", (1, 16, 16)), config).phases()}
    assert (phases["autoencoder"].warmup, phases["adversarial"].warmup) == (7, 0)


def test_the_nearest_vector_is_found_in_full_precision_under_autocast():
    """Two vectors that bfloat16 cannot tell apart."""
    book = codebook_of([[1.0, 1.0], [1.001, 1.0]])
    latents = torch.tensor([1.0008, 1.0]).view(1, 2, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert book.nearest(latents).item() == 1


def test_the_gradient_passes_straight_through():
    """d/dz of 3 q(z) is 3, wherever the nearest vector lies, and none of it reaches the vectors."""
    book = codebook_of([[0.0], [1.0]])
    latents = torch.tensor([0.2, 0.9]).view(2, 1, 1, 1).requires_grad_()
    vectors = book.look_up(book.nearest(latents))
    out = straight_through(latents, vectors)
    assert out.flatten().tolist() == pytest.approx([0, 1])
    (3 * out).sum().backward()
    assert latents.grad.flatten().tolist() == [3, 3] and book.learned.grad is None


def test_the_terms_and_their_gradients_by_hand():
    """z = 0.2 and 0.9 at e = 0 and 1: both are ((0.2)^2 + (0.1)^2) / 2, and each moves one side alone, by z - e."""
    book = codebook_of([[0.0], [1.0]])
    latents = torch.tensor([0.2, 0.9]).view(2, 1, 1, 1).requires_grad_()
    for term in (0, 1):
        book.learned.grad = latents.grad = None
        terms = codebook_terms(latents, book.look_up(book.nearest(latents)))
        assert terms[term].item() == pytest.approx(0.025)
        terms[term].backward()
        moved, still = (book.learned, latents) if term == 0 else (latents, book.learned)
        sign = -1 if term == 0 else 1
        assert moved.grad.flatten().tolist() == pytest.approx([sign * 0.2, sign * -0.1])
        assert still.grad is None


# Codes that stay alive


def test_a_vector_moves_onto_a_latent_after_so_many_updates_without_use():
    torch.manual_seed(0)
    book = codebook_of([[0.0], [5.0], [9.0]])
    latents = torch.tensor([0.1, 0.2]).view(2, 1, 1, 1)
    for idle in (1, 2):
        book.revive(latents, book.nearest(latents), patience=3)
        assert book.idle.tolist() == [0, idle, idle] and book.vectors.flatten().tolist() == [0, 5, 9]
    other = torch.tensor([9.1, 9.2]).view(2, 1, 1, 1)
    book.revive(other, book.nearest(other), patience=3)
    assert book.idle.tolist() == [1, 0, 0]
    assert book.vectors[0] == 0 and book.vectors[2] == 9, "one used in the meantime stays"
    assert book.vectors[1].item() in (pytest.approx(9.1), pytest.approx(9.2))
    assert book.learned.flatten().tolist() == [0, 5, 9], "what is learned is the optimizer's"


def grid_source(n):
    """Latents (n, 2, 1, 1) from 16 points with noise, and the points."""
    points = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))
    return (points[torch.randint(16, (n,))] + 0.02 * torch.randn(n, 2))[..., None, None], points


def learned(book, patience):
    """The codebook after 200 updates on that source; its vectors are moved if there is a patience."""
    optimizer = torch.optim.Adam(book.parameters(), lr=0.01)
    for _ in range(200):
        latents, _ = grid_source(64)
        codes = book.nearest(latents)
        optimizer.zero_grad()
        codebook_terms(latents, book.look_up(codes))[0].backward()
        optimizer.step()
        if patience:
            book.revive(latents, codes, patience)
    return book


def used(book):
    return book.nearest(grid_source(500)[0]).unique().numel()


@pytest.mark.parametrize("seed", range(5))
def test_the_codebook_of_a_discrete_source_is_found_and_used_whole(seed):
    """K = 16 points, 1 apart, with noise: each comes to have one of K vectors."""
    torch.manual_seed(seed)
    book = Codebook(16, 2)
    book.spread(grid_source(500)[0])
    book = learned(book, patience=20)
    nearest = torch.cdist(grid_source(1)[1], book.vectors.detach()).min(1)
    assert nearest.values.max() < 0.1 and len(set(nearest.indices.tolist())) == 16
    assert used(book) == 16


def test_a_codebook_that_begins_in_a_corner_is_used_only_if_its_vectors_are_moved():
    torch.manual_seed(0)
    assert used(learned(Codebook(16, 2), patience=0)) <= 10
    assert used(learned(Codebook(16, 2), patience=5)) >= 14


def test_vectors_are_spread_over_a_source_of_fewer_points_too():
    book = Codebook(8, 1)
    book.spread(torch.tensor([1.0, 1.0, 3.0]).view(3, 1, 1, 1))
    assert {round(vector, 5) for vector in book.vectors.flatten().tolist()} == {1.0, 3.0}


def test_the_codebook_begins_on_latents_or_uniform_as_published():
    spread, published = built().train(), built(revive=0).train()
    for model in (spread, published):
        with torch.no_grad():
            model.prepare("autoencoder", Batch(images()))
            model.prepare("adversarial", Batch(images()))
    latents = spread.stage.mean(images()).movedim(1, -1).flatten(0, -2).detach()
    vectors = spread.stage.coder.codebook.vectors.detach()
    assert (vectors[:, None] - latents).abs().amax(2).min(1).values.max() < 1e-5
    assert published.stage.coder.codebook.vectors.abs().max() <= 1 / 16
    assert not published.stage.coder.codebook.moved.any()


def test_only_training_of_the_autoencoder_moves_vectors():
    model = built(revive=1).train()
    before = model.stage.coder.codebook.moved.clone()
    model.loss("critic", Batch(images()))
    model.eval().loss("autoencoder", Batch(images()))
    assert torch.equal(model.stage.coder.codebook.moved, before)
    model.train().loss("autoencoder", Batch(images()))
    assert not torch.equal(model.stage.coder.codebook.moved, before)


# The critic


@pytest.mark.parametrize(("layers", "size"), [(3, 2_765_633), (2, 663_361)])
def test_the_published_critics_have_their_parameters(layers, size):
    with torch.device("meta"):
        assert count(PatchCritic(3, 64, layers)) == size


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_critic_scores_patches_of_the_smallest_images_and_of_larger_ones(layers):
    least, critic = smallest_side(layers), PatchCritic(1, 4, layers)
    assert critic(torch.randn(2, 1, least, least)).shape == (2, 1, 1, 1)
    assert critic(torch.randn(2, 1, 4 * least, 2 * least)).shape[2:] == (12 - 2, 6 - 2)
    with pytest.raises(RuntimeError):
        critic(torch.randn(2, 1, least - 1, least))
    assert not list(critic.buffers())


def test_a_patch_is_scored_by_what_is_near_it():
    """With two layers a score sees 34 pixels a side. Batch statistics are of all, so they are taken out."""
    torch.manual_seed(0)
    critic = PatchCritic(1, 4, 2)
    for norm in [layer for layer in critic.layers if isinstance(layer, nn.BatchNorm2d)]:
        norm.forward = lambda x: x
    one = torch.randn(1, 1, 80, 80)
    other = one.clone()
    other[..., 0, 0] += 10
    changed = (critic(one) != critic(other))[0, 0].nonzero()
    assert changed.max() == 2, "the last whose window, which begins at 4 i - 11, has the corner in it"


def test_the_adaptive_weight_by_hand():
    """L_rec = 3 a + 4 b has a gradient of norm 5, L_gan = 0.5 (a + b) / sqrt 2 one of 0.5: 5 / (0.5 + 1e-4)."""
    last = torch.tensor([1.0, 2.0], requires_grad=True)
    reconstruction, adversarial = 3 * last[0] + 4 * last[1], 0.5 * last.sum() / math.sqrt(2)
    weight = adaptive_weight(reconstruction, adversarial, last)
    assert weight.item() == pytest.approx(5 / 0.5001) and not weight.requires_grad
    assert adaptive_weight(reconstruction, 0 * adversarial, last) == 1e4, "at most"
    assert adaptive_weight(0 * reconstruction, adversarial, last) == 0
    (reconstruction + adversarial).backward()  # the graph is still there


def test_the_loss_is_the_sum_of_its_terms():
    model = built(adversarial=0.6, codebook_weight=0.25, commitment=1.0)
    parts = {name: value.detach() for name, value in model.loss("adversarial", Batch(images())).items()}
    judged = 0.6 * parts["adaptive_weight"] * parts["adversarial"]
    assert parts["loss"].item() == pytest.approx(
        float(parts["error"] + 0.25 * parts["codebook"] + parts["commitment"] + judged), rel=1e-5
    )
    alone = {name: value.detach() for name, value in model.loss("autoencoder", Batch(images())).items()}
    assert alone["loss"].item() == pytest.approx(
        float(alone["error"] + 0.25 * alone["codebook"] + alone["commitment"]), rel=1e-5
    )
    assert "adversarial" not in alone


def test_the_adaptive_weight_is_that_of_the_last_layer():
    """Both losses then have gradients of equal norm there."""
    model = built().train()
    stage, last = model.stage, model.stage.coder.decoder.head.weight
    give_gradients(model, model.phases()[1])
    weight = model.loss("adversarial", Batch(images()))["adaptive_weight"]
    made = stage.coder.reconstruct(images())
    error, fooled = (made - images()).abs().mean(), -stage.critic(made).mean()
    pulls = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (error, fooled)]
    assert float(weight * pulls[1]) == pytest.approx(float(pulls[0]), rel=1e-2)


def test_the_critic_is_taught_by_half_the_hinge_loss():
    model = built()
    parts = model.loss("critic", Batch(images()))
    with torch.no_grad():
        real, fake = model.stage.critic(images()), model.stage.critic(model.stage.coder.reconstruct(images()))
        wanted = ((1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean()) / 2
    assert parts["loss"].item() == pytest.approx(float(wanted), rel=1e-5)
    assert (parts["real_score"], parts["fake_score"]) == (real.mean(), fake.mean())


def test_phases_share_one_optimizer_and_one_schedule():
    alone, beside, critic = built(critic_start=0.25).phases()
    assert [(p.name, p.span) for p in (alone, beside, critic)] == [
        ("autoencoder", (0, 0.25)), ("adversarial", (0.25, 1)), ("critic", (0.25, 1)),
    ]  # fmt: skip
    assert alone.optimizer is beside.optimizer is not critic.optimizer
    (whole,) = built(adversarial=0.0).phases()
    assert (whole.name, whole.span) == ("autoencoder", (0, 1))
    for progress in (0.01, 0.1, 0.2499):
        assert alone.factor(progress / 0.25, 9) == pytest.approx(whole.factor(progress, 9))
    for progress in (0.25, 0.6, 0.999):
        assert beside.factor((progress - 0.25) / 0.75, 9) == pytest.approx(whole.factor(progress, 9))
    moved = {id(p) for phase in (alone, critic) for p in phase.parameters}
    assert len(moved) == len(list(built().parameters()))


def test_codes_do_not_decay():
    optimizer = built(weight_decay=0.1, optimizer="adamw").phases()[0].optimizer
    groups = {group["weight_decay"]: group["params"] for group in optimizer.param_groups}
    assert [tuple(p.shape) for p in groups[0.0]] == [(16, 4)] and len(groups[0.1]) > 1


# The models


@pytest.mark.parametrize(
    ("preset", "half", "codebook", "critic"),
    [
        ("paper-f4", 22_337_411 + 32_960_771 + 24, 24_576, 2_765_633),
        ("paper-f8", 27_397_764 + 40_253_955 + 40, 65_536, 663_361),
    ],
)
def test_published_first_stages_have_their_parameters(preset, half, codebook, critic):
    with torch.device("meta"):
        model = VQGAN(DataSpec("toy", (3, 256, 256)), VQGAN.Config(**VQGAN.presets[preset]))
    coder = model.stage.coder
    assert count(coder.codebook) == codebook and count(coder) == half + codebook
    assert count(coder) == {"paper-f4": 55_322_782, "paper-f8": 67_717_295}[preset]
    assert count(model.stage.critic) == critic


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28)], ids=["colour", "gray"])
@pytest.mark.parametrize("preset", ["paper-f4", "paper-f8"])
def test_published_first_stages_with_fewer_channels_train_and_reconstruct(preset, shape):
    """Sides of 28 pixels are no multiple of 8."""
    published = VQGAN.presets[preset]
    widths = tuple(width // 16 for width in published["ae_widths"])
    model = built(shape, **published | {"ae_widths": widths, "critic_width": 4, "codes": 32}).train()
    batch = Batch(images(2, shape))
    for phase in model.phases():
        model.prepare(phase.name, batch)
        model.zero_grad()
        give_gradients(model, phase)
        model.loss(phase.name, batch)["loss"].backward()
        for name, parameter in phase.module.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    factor = model.config.factor
    with torch.inference_mode():
        assert model.eval().reconstruct(batch.images).shape == (2, *shape)
        assert model.codes(batch.images).shape == (2, -(-shape[1] // factor), -(-shape[2] // factor))


def test_a_first_stage_learns_to_reconstruct():
    model, batch = built(adversarial=0.0, revive=5).train(), Batch(images(64))
    optimizer = model.phases()[0].optimizer
    with torch.no_grad():
        model.prepare("autoencoder", batch)

    def error():
        with torch.no_grad():
            return float((model.reconstruct(batch.images) - batch.images).abs().mean())

    before = error()
    for step in range(120):
        torch.manual_seed(step)
        optimizer.zero_grad()
        model.loss("autoencoder", batch)["loss"].backward()
        optimizer.step()
    assert error() < 0.5 * before
    assert model.codes(batch.images).unique().numel() > 0.8 * 16


def test_reconstructions_are_decoded_from_codes_alone():
    model = built(adversarial=0.0).eval()
    with torch.no_grad():
        model.prepare("autoencoder", Batch(images()))
        codes = model.codes(images())
        wanted = model.stage.coder.decoded(model.stage.coder.codebook.look_up(codes)).clamp(-1, 1)
        assert torch.equal(model.reconstruct(images()), wanted)
        assert codes.shape == (16, 4, 4) and codes.max() < model.codebook_size() == 16


def test_latent_diffusion_learns_latents_before_quantisation_and_decodes_after():
    model = on_codebook().eval()
    stage = model.autoencoder
    with torch.no_grad():
        model.prepare("autoencoder", Batch(images()))
        model.prepare("diffusion", Batch(images()))
        latents = model.mean_latents(images())
        assert torch.equal(latents, model.scale * stage.coder.encoded(images()))
        assert latents.std() == pytest.approx(1, abs=1e-4), "of unit variance"
        vectors = model.scale * stage.coder.quantised(stage.coder.encoded(images()))
        assert not torch.allclose(vectors, latents)
        assert torch.allclose(model.decode(vectors), model.decode(latents), atol=1e-5)


def test_only_the_first_stage_without_a_codebook_bounds_the_likelihood():
    bounded = {"likelihood", "bound terms", "bound over time"}
    kl = LatentDiffusion(DataSpec("toy", (1, 8, 8)), LatentDiffusion.Config(**LatentDiffusion.presets["tiny"]))
    assert bounded <= set(capabilities(type(kl)))
    assert bounded.isdisjoint(capabilities(type(on_codebook())))
    assert {"reconstruction", "interpolation", "chains"} <= set(capabilities(type(on_codebook())))


@pytest.mark.slow
def test_a_run_on_a_codebook_has_no_likelihood_and_says_so(genbench, tmp_path):
    words = ["ldm.preset=tiny", "ldm.first_stage=vq", "ldm.codes=16"]
    settings = [word for setting in words for word in ("--set", setting)]
    few = ["-d", "digits", "--budget", "20steps", "--samples", "100", "--likelihood-images", "4", "--device", "cpu"]
    assert genbench("run", "-m", "ldm", *settings, *few).code == 0
    record = record_of(run_of(tmp_path / "runs", "ldm"))
    found = {m["metric"]: m for m in record["measurements"]}
    assert found["bits_per_dim_test"]["value"] is None
    assert found["bits_per_dim_test"]["status"] == "not_applicable"
    assert found["rfid"]["value"] > 0 and "bound over time" not in record["capabilities"]
    assert not (run_of(tmp_path / "runs", "ldm") / "bound.json").exists()


def test_a_first_stage_alone_is_a_row_with_reconstructions_and_codes(genbench, tmp_path):
    few = ["-d", "digits", "--budget", "20steps", "--samples", "100", "--device", "cpu", "--curve", "3"]
    assert genbench("run", "-m", "vqgan", "--set", "vqgan.preset=tiny", *few).code == 0
    record = record_of(run_of(tmp_path / "runs", "vqgan"))
    found = {m["metric"]: m for m in record["measurements"]}
    assert {"rfid", "psnr", "ssim", "code_use", "code_perplexity"} <= found.keys() and "fid_test" not in found
    assert record["samples"]["count"] == 0 and record["cost"]["train"]["phases"].keys() == {
        "autoencoder", "adversarial", "critic",
    }  # fmt: skip
    sizes = record["cost"]["parameters_by_phase"]
    assert record["cost"]["parameters"] == sizes["autoencoder"] + sizes["critic"], "those of two phases count once"
    assert sizes["adversarial"] == 0, "the first of two phases has them"
    assert all(point["measurements"] for point in record["curve"]), "also before the critic has begun"


def test_what_a_critic_costs_is_planned(tmp_path):
    found = planned(session_of("vqgan", "preset=tiny"))
    phases = found.phases
    assert set(phases) == {"autoencoder", "adversarial", "critic"} and not any(p.tried for p in phases.values())
    assert phases["adversarial"].flops_per_update > phases["autoencoder"].flops_per_update
    assert phases["adversarial"].optimizer_bytes == phases["adversarial"].gradient_bytes == 0, "it is the first one's"
