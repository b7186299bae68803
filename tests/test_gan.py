"""The GAN: shapes, losses with known answers, two players that leave each other alone, and labels that count."""

import copy

import pytest
import torch
from torch import Tensor

from genbench import Batch, Condition, ConditionSpec, DataSpec
from genbench.nets import Upsample
from genbench.planning.config import configure, make_experiment
from genbench_gan import GAN, GANConfig, critic_loss, generator_loss, gradient_penalty
from genbench_gan.networks import Doubling, Leaky, pyramid, to_images
from genbench_gan.penalties import energy_score


def make(side: int = 8, channels: int = 1, classes: int = 0, **config: object) -> GAN:
    torch.manual_seed(0)
    settings = {**GAN.presets["tiny"], **config}
    return GAN(DataSpec("toy", (channels, side, side), classes), GANConfig(**settings))


def batch(model: GAN, n: int = 16) -> Batch:
    classes = model.data.num_classes
    return Batch(torch.rand(n, *model.data.shape) * 2 - 1, torch.arange(n) % classes if classes else None)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 16, 18, 28, 32, 64])
def test_samples_have_the_shape_of_the_data_and_stay_in_range(side: int, channels: int, classes: int) -> None:
    model = make(side, channels, classes)
    images = model.sample(5, torch.arange(5) % classes if classes else None)
    assert images.shape == (5, channels, side, side) and images.dtype == torch.float32
    assert images.abs().max() <= 1
    for phase in ("critic", "generator"):
        assert torch.isfinite(model.loss(phase, batch(model, 4))["loss"])


@pytest.mark.parametrize("shape", [(3, 8, 72), (1, 160, 16), (3, 15, 9)])
def test_wide_and_tall_images_are_generated_and_judged(shape: tuple[int, int, int]) -> None:
    model = GAN(DataSpec("strip", shape), GANConfig(width=4, critic_width=4, latent=4))
    images = torch.rand(2, *shape) * 2 - 1
    assert model.sample(2).shape == (2, *shape) and model.critic(images).shape == (2,)


@pytest.mark.parametrize(("shape", "finest"), [((3, 32, 32), 16), ((1, 8, 40), 10), ((3, 64, 64), 16), ((3, 7, 7), 4)])
def test_large_images_have_larger_patches_unless_they_are_set(shape: tuple[int, int, int], finest: int) -> None:
    def maps(**settings: int) -> int:
        generator = GAN(DataSpec("toy", shape), GANConfig(width=4, critic_width=4, detail=0, **settings)).generator
        coarsest = generator.stem(torch.zeros(1, 64)).unflatten(1, (-1, *generator.coarsest))
        width: int = generator.grow(coarsest, None).shape[3]
        return width

    assert maps() == finest
    assert maps(patch=1) >= shape[2]


@pytest.mark.parametrize(("gained", "size"), [(True, 1.0), (False, 0.71)])
def test_activations_keep_their_mean_square_if_they_are_gained(gained: bool, size: float) -> None:
    x = torch.randn(100_000)
    assert Leaky(gained)(x).square().mean().sqrt().item() == pytest.approx(size, abs=0.01)


def chosen(*settings: str) -> GANConfig:
    """The configuration that these `--set` texts choose."""
    (choice,) = make_experiment(None, {}, ["gan"], [f"gan.{setting}" for setting in settings]).models
    return configure(GAN, choice)


@pytest.mark.parametrize(
    "settings",
    [
        ("loss=non_saturating",),
        ("loss=wasserstein", "gradient_penalty=5.0", "spectral_norm=false"),
        ("critic_steps=2",),
        ("norm=batch",),
        ("network=residual",),
        ("network=biggan", "norm=batch", "hierarchical=false", "embedding=0", "critic_base=4", "truncation=0.5"),
        ("network=biggan_deep", "multipliers=[1, 1, 2]", "attention=[0]", "generator_spectral_norm=true"),
        (
            "init=orthogonal",
            "orthogonal=0.001",
            "sampler=latent_langevin",
            "steps=2",
            "step_size=0.5",
            "temperature=0.5",
        ),
        ("network=residual", "norm=batch", "ema_decay=0.0", "loss=wasserstein", "patch=1", "base=4"),
    ],
    ids=" ".join,
)
def test_every_knob_is_reached_by_set_and_trains_in_bfloat16(settings: tuple[str, ...]) -> None:
    config = chosen("preset=tiny", *settings)
    changed = {name for name, value in config if value != getattr(GANConfig(**GAN.presets["tiny"]), name)}
    assert changed == {setting.split("=")[0] for setting in settings}
    model = GAN(DataSpec("toy", (3, 16, 16), 3), config)
    for phase in model.phases():
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.loss(phase.name, batch(model))["loss"]
        loss.backward()
        phase.optimizer.step()
        assert loss.isfinite()
    assert model.eval().sample(3, torch.arange(3)).isfinite().all()


def test_pyramid_halves_rounding_up_until_the_base() -> None:
    assert pyramid((28, 28), 2, 8) == [(14, 14), (7, 7)]
    assert pyramid((15, 15), 2, 4) == [(8, 8), (4, 4)]
    assert pyramid((8, 8), 1, 8) == [(8, 8)]


def test_losses_have_their_papers_values() -> None:
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 1.0])
    assert critic_loss("hinge", real, fake).item() == pytest.approx(0.5 + 1.0)
    assert critic_loss("wasserstein", real, fake).item() == pytest.approx(-1.0 - 1.0)
    expected = -(real.sigmoid().log().mean() + (-fake).sigmoid().log().mean())
    assert critic_loss("non_saturating", real, fake).item() == pytest.approx(expected.item(), rel=1e-6)
    assert generator_loss("hinge", fake).item() == generator_loss("wasserstein", fake).item() == 1.0
    assert generator_loss("non_saturating", fake).item() == pytest.approx(-fake.sigmoid().log().mean().item(), rel=1e-6)


@pytest.mark.parametrize("kind", ["hinge", "non_saturating", "wasserstein"])
def test_a_critic_that_separates_has_the_lower_loss_and_its_generator_the_higher(kind: str) -> None:
    good, bad = torch.full((4,), 1.0), torch.full((4,), -1.0)
    assert critic_loss(kind, good, bad) < critic_loss(kind, bad, good)
    assert generator_loss(kind, good) < generator_loss(kind, bad)


def test_gradient_penalty_is_zero_where_the_gradient_has_norm_one() -> None:
    torch.manual_seed(0)
    real, fake = torch.randn(2, 6, 3, 8, 8)
    direction = torch.randn(3 * 8 * 8)
    direction /= direction.norm()

    def linear(slope: float, images: Tensor) -> Tensor:
        return slope * images.flatten(1) @ direction

    assert gradient_penalty(lambda images: linear(1, images), real, fake).item() == pytest.approx(0, abs=1e-10)
    assert gradient_penalty(lambda images: linear(3, images), real, fake).item() == pytest.approx(4, rel=1e-5)


def test_gradient_penalty_looks_between_real_and_fake_and_teaches_the_critic() -> None:
    seen: list[Tensor] = []
    slope = torch.tensor(2.0, requires_grad=True)

    def critic(images: Tensor) -> Tensor:
        seen.append(images.detach())
        return slope * images.flatten(1)[:, 0]

    gradient_penalty(critic, torch.ones(8, 1, 2, 2), torch.zeros(8, 1, 2, 2)).backward()
    assert ((seen[0] > 0) & (seen[0] < 1)).all()
    assert (seen[0].flatten(1).std(1) < 1e-6).all() and seen[0].std() > 0.05  # one point a pair
    assert slope.grad is not None and slope.grad.item() == pytest.approx(2.0)


@pytest.mark.parametrize("kind", ["hinge", "non_saturating", "wasserstein"])
@pytest.mark.parametrize("phase", ["critic", "generator"])
def test_a_phase_moves_its_own_network_only(phase: str, kind: str) -> None:
    model = make(classes=3, loss=kind)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    chosen = {p.name: p for p in model.phases()}[phase]
    model.loss(phase, batch(model))["loss"].backward()
    chosen.optimizer.step()
    moved = {name.split(".")[0] for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {phase}


def test_the_wasserstein_loss_carries_its_weighted_penalty() -> None:
    values = []
    for weight in (0.0, 10.0, 20.0):
        model = make(loss="wasserstein", gradient_penalty=weight).eval()
        torch.manual_seed(1)
        values.append(model.loss("critic", batch(model))["loss"].item())
    assert values[1] > values[0]
    assert values[2] - values[0] == pytest.approx(2 * (values[1] - values[0]), rel=1e-4)


def test_fakes_are_detached_from_the_critics_loss() -> None:
    model = make()
    model.loss("critic", batch(model))["loss"].backward()
    assert all(p.grad is None for p in model.generator.parameters())
    assert all(p.grad is not None for p in model.critic.parameters())


def test_the_generators_loss_sees_nothing_of_the_real_images() -> None:
    model = make()
    model.eval()
    torch.manual_seed(1)
    one = model.loss("generator", Batch(torch.zeros(6, 1, 8, 8)))["loss"]
    torch.manual_seed(1)
    other = model.loss("generator", Batch(torch.ones(6, 1, 8, 8)))["loss"]
    assert torch.equal(one, other)


def test_a_new_generator_draws_the_same_for_every_class() -> None:
    generator, z = make(classes=3).generator, torch.randn(4, 8)
    assert torch.equal(generator(z, torch.zeros(4, dtype=torch.long)), generator(z, torch.ones(4, dtype=torch.long)))


def test_labels_change_the_images_and_the_scores() -> None:
    model = make(classes=3).eval()
    for p in model.generator.parameters():  # the embeddings start at zero
        p.data.add_(0.1 * torch.randn_like(p))
    torch.manual_seed(1)
    zeros = model.sample(4, torch.zeros(4, dtype=torch.long))
    torch.manual_seed(1)
    ones = model.sample(4, torch.ones(4, dtype=torch.long))
    assert not torch.allclose(zeros, ones)
    scores = [model.critic(zeros, torch.full((4,), label)) for label in (0, 1)]
    assert not torch.allclose(*scores)


def test_projection_adds_the_inner_product_of_features_and_embedding() -> None:
    critic = make(classes=3, patch=2, depth=1).critic.eval()
    images, labels = torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 0])
    features = critic.features(torch.nn.functional.pixel_unshuffle(images, 2))
    expected = critic.head(features.flatten(1)).squeeze(1) + (critic.embed.weight[labels] * features.sum((2, 3))).sum(1)
    torch.testing.assert_close(critic(images, labels), expected)


def test_every_critic_weight_gets_a_spectral_norm_of_about_one() -> None:
    model = make(28, classes=3)
    for p in model.critic.parameters():
        p.data.mul_(3)
    for _ in range(30):
        model.critic(torch.randn(2, 1, 28, 28), torch.tensor([0, 1]))
    layers = [m for m in model.critic.modules() if hasattr(m, "parametrizations")]
    assert len(layers) == 5  # two levels, the step between them, head, class embedding
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2).item() == pytest.approx(1, abs=0.02)
    assert not any("parametrizations" in name for name, _ in make(spectral_norm=False).critic.named_parameters())


def test_evaluation_moves_no_buffer_and_a_copy_gives_the_same_scores() -> None:
    model, images = make(16), torch.randn(3, 1, 16, 16)
    model.critic(images)
    twin = make(16)
    twin.load_state_dict(copy.deepcopy(model.state_dict()))
    model.eval(), twin.eval()
    before = {name: b.clone() for name, b in model.named_buffers()}
    assert torch.equal(model.critic(images), twin.critic(images))
    assert before and all(torch.equal(b, before[name]) for name, b in model.named_buffers())


def test_phases_are_critic_then_generator_with_the_configured_steps_and_rates() -> None:
    model = make(critic_steps=3, learning_rate=5e-4, critic_learning_rate=7e-4)
    critic, generator = model.phases()
    assert (critic.name, critic.repeats, critic.module) == ("critic", 3, model.critic)
    assert (generator.name, generator.repeats, generator.module) == ("generator", 1, model.generator)
    assert critic.optimizer.param_groups[0]["lr"] == 7e-4 and generator.optimizer.param_groups[0]["lr"] == 5e-4


@pytest.mark.parametrize("kind", ["hinge", "non_saturating", "wasserstein"])
def test_playing_brings_the_samples_nearer_to_the_data(kind: str) -> None:
    model = make(loss=kind)
    target = torch.full((1, 8, 8), -0.8)
    target[:, 2:6, 2:6] = 0.8

    def distance() -> float:
        with torch.no_grad():
            return (model.sample(64).mean(0) - target).abs().mean().item()

    phases, before = model.phases(), distance()
    for _ in range(150):
        for phase in phases:
            for p in model.parameters():
                p.grad = None
            images = (target + 0.05 * torch.randn(16, 1, 8, 8)).clamp(-1, 1)
            model.loss(phase.name, Batch(images))["loss"].backward()
            phase.optimizer.step()
    assert distance() < 0.5 * before


def test_training_and_sampling_work_under_bfloat16_autocast() -> None:
    model = make(classes=3, loss="wasserstein")
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.loss("critic", batch(model))
        losses["loss"].backward()
        images = model.sample(4, torch.arange(4) % 3)
    assert torch.isfinite(losses["loss"]) and images.dtype == torch.float32
    assert all(torch.isfinite(p.grad).all() for p in model.critic.parameters() if p.grad is not None)


@pytest.mark.parametrize(("detail", "seen"), [(0, [0, 1, 2]), (4, [0, 1, 2, 3])])
def test_a_pixel_at_the_edge_of_its_patch_sees_the_next_one(detail: int, seen: list[int]) -> None:
    """The last pixel of patch 1: its 3x3 convolution sees patches 0 to 2, and the one over pixels what patch 2 sees."""
    torch.manual_seed(0)
    generator = GAN(DataSpec("toy", (1, 10, 10)), GANConfig(width=4, detail=detail)).generator
    maps = torch.randn(1, 4, 5, 5, requires_grad=True)
    pixels = generator.layers[-1] if detail else torch.nn.Identity()
    images = to_images(generator.head(pixels(maps)), generator.patch, (10, 10))
    assert images.shape == (1, 1, 10, 10)
    images[0, 0, 3, 3].backward()
    assert maps.grad is not None
    assert maps.grad.abs().sum((0, 1, 2)).nonzero().flatten().tolist() == seen


@pytest.mark.parametrize(("upsampling", "values"), [("nearest", 1), ("transposed", 4)])
def test_neighbours_of_a_flat_map_are_doubled_without_a_pattern(upsampling: str, values: int) -> None:
    torch.manual_seed(0)
    config = GANConfig(width=1, depth=1, base=4, patch=2, upsampling=upsampling)
    layers = GAN(DataSpec("toy", (1, 16, 16)), config).generator.layers
    (double,) = [layer for layer in layers if isinstance(layer, Upsample | Doubling)]
    inner = double(torch.ones(1, 2, 6, 6), None)[0, 0, 2:-2, 2:-2]
    assert len(inner.detach().mul(1e5).round().unique()) == values


# What is shown of an image


RIGHT_HALF = (torch.arange(8) >= 4).expand(1, 8, 8)


def with_holes() -> GAN:
    torch.manual_seed(0)
    return GAN(DataSpec("toy", (1, 8, 8), 0, ConditionSpec("hole", (1, 8, 8))), GANConfig(**GAN.presets["tiny"]))


def left_half(images: Tensor) -> Condition:
    """What is shown of images (B, 1, 8, 8) whose right half is hidden."""
    return Condition({"image": images.masked_fill(RIGHT_HALF, 0), "hole": RIGHT_HALF.expand(len(images), 1, 8, 8)})


def test_the_energy_score_is_lowest_for_answers_that_are_distributed_as_the_images_are() -> None:
    images = torch.full((1, 1, 1, 1), 5.0)
    assert energy_score(images, torch.full_like(images, 2.0), torch.full_like(images, 4.0)).item() == (3 + 1 - 2) / 2
    drawn = torch.Generator().manual_seed(0)
    images, one, other = torch.randn(3, 20_000, 1, 2, 2, generator=drawn)
    right, narrow, wide, apart = (
        energy_score(images, scale * one + shift, scale * other + shift).item()
        for scale, shift in ((1.0, 0.0), (0.3, 0.0), (2.0, 0.0), (1.0, 0.5))
    )
    assert right < min(narrow, wide, apart)


def test_answers_to_one_hole_are_as_far_from_each_other_as_from_the_image_and_no_further_than_they_must() -> None:
    """The hidden half has the level of the other, negated, and a deviation that nothing that is shown tells."""
    model = with_holes()

    def examples() -> Batch:
        level = torch.rand(64, 1, 1, 1) - 0.5
        images = torch.where(RIGHT_HALF, deviation * torch.randn_like(level) - level, level)
        return Batch.of(images, left_half(images))

    phases, deviation = model.phases(), 0.05
    for _ in range(200):
        seen = examples()
        for phase in phases:
            phase.optimizer.zero_grad()
            model.loss(phase.name, seen)["loss"].backward()
            phase.optimizer.step()
    seen = examples()
    with torch.no_grad():
        one, other = model.sample(64, seen.given), model.sample(64, seen.given)
    hole = seen.given["hole"]
    error, least = float((one - seen.images)[hole].square().mean().sqrt()), 2**0.5 * deviation
    assert error < 1.5 * least and float((one - other)[hole].square().mean().sqrt()) == pytest.approx(error, rel=0.2)


def test_only_the_hole_is_generated_and_the_critic_sees_the_rest_as_it_was_given() -> None:
    model = with_holes()
    image = torch.rand(6, 1, 8, 8) * 2 - 1
    given = left_half(image)
    for made in (model.sample(6, given), model.fakes(6, given)):
        assert torch.equal(made[..., :4], image[..., :4]) and (made[..., 4:] != 0).all()
    model.loss("generator", Batch.of(image, given))["loss"].backward()
    assert model.generator.head.weight.grad.abs().sum() > 0


def test_a_critic_sees_real_images_as_shown_where_they_are_shown() -> None:
    """Dequantised ones would be told from generated ones by pixels that nobody generated."""
    model = with_holes()
    image = torch.rand(6, 1, 8, 8) * 2 - 1
    given, seen = left_half(image), []
    model.critic.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.loss("critic", Batch.of(image + 0.01, given))
    with torch.no_grad():
        model.settle(Batch.of(image + 0.01, given))
    for scored in seen:
        assert (scored[..., :4] == image[..., :4].repeat(len(scored) // 6, 1, 1, 1)).all()
    assert torch.equal(seen[0][:6][..., 4:], image[..., 4:] + 0.01)


def test_a_small_image_is_shown_and_nothing_is_pasted() -> None:
    torch.manual_seed(0)
    model = GAN(DataSpec("toy", (1, 8, 8), 0, ConditionSpec("image", (1, 2, 2))), GANConfig(**GAN.presets["tiny"]))
    small = Condition({"image": torch.rand(6, 1, 2, 2) * 2 - 1})
    assert model.sample(6, small).flatten(1).std(1).min() > 0
