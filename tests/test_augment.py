"""What the critic sees: each transform against what it should do to an image, and how p follows the scores."""

import math

import pytest
import torch
from pytest import approx
from test_penalties import train_gan
from torch import Tensor
from torch.nn import functional as F
from toys import killed_at

from genbench import Batch, DataSpec
from genbench.planning.config import configure, make_experiment
from genbench.support.errors import BadInput
from genbench.training import loop
from genbench_gan import GAN, GANConfig, augment
from genbench_gan.augment import COLOURS, GEOMETRY, AdaptiveAugmentation, recoloured, resampled, rescaled
from genbench_gan.penalties import r1_penalty

ALL = tuple(dict(GEOMETRY) | dict(COLOURS))


def augmentation(*transforms: str, p: float = 1.0, channels: int = 3) -> AdaptiveAugmentation:
    made = AdaptiveAugmentation(transforms or ALL, channels, target=0.6, step=0.01)
    made.p.fill_(p)
    return made


def photographs(n: int = 8, channels: int = 3, height: int = 12, width: int = 12) -> Tensor:
    """Smooth random images."""
    torch.manual_seed(0)
    return F.interpolate(torch.randn(n, channels, 4, 4), size=(height, width), mode="bicubic")


def drawn(monkeypatch: pytest.MonkeyPatch, **values: Tensor | float) -> None:
    """Let the transforms draw these numbers: `uniform`, `normal`, `one_of`."""
    for name, value in values.items():
        monkeypatch.setattr(augment, name, lambda images, *_, value=value: torch.as_tensor(value).expand(len(images)))


def test_without_augmentation_the_critic_sees_the_very_images() -> None:
    for channels in (1, 3):
        images = photographs(channels=channels, height=9)
        assert torch.equal(augmentation(p=0.0, channels=channels)(images), images)


def test_flips_and_turns_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    images = photographs()
    drawn(monkeypatch, one_of=1.0)
    assert torch.equal(augmentation("flip")(images), images.flip(3))
    turned = augmentation("turn")(images)
    assert torch.equal(turned, images.rot90(1, (2, 3))) or torch.equal(turned, images.rot90(3, (2, 3)))
    drawn(monkeypatch, one_of=2.0)
    assert torch.equal(augmentation("turn")(images), images.flip(2, 3))


def test_shifts_move_by_whole_pixels_and_reflect_what_is_beyond_the_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    images = photographs(height=16)
    drawn(monkeypatch, uniform=0.12)  # of 12 and 16 pixels: 1 and 2
    moved = F.pad(images, (0, 1, 0, 2), mode="reflect")[:, :, 2:, 1:]
    assert torch.equal(augmentation("shift")(images), moved)


def test_moves_are_shifts_by_parts_of_a_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cubic convolution reproduces polynomials of degree 2; of degree 1 at least."""
    row = torch.arange(12.0).expand(1, 1, 12, 12)
    drawn(monkeypatch, normal=0.125 / 5)  # 0.3 of 12 pixels
    assert torch.allclose(augmentation("move", channels=1)(row)[..., 1:-2], (row + 0.3)[..., 1:-2], atol=1e-5)
    bend = (row - 5) ** 2
    assert torch.allclose(augmentation("move", channels=1)(bend)[..., 1:-2], ((row - 4.7) ** 2)[..., 1:-2], atol=1e-4)


def test_scale_stretch_and_rotation_of_a_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image whose colour is its place (x, y) shows where each pixel comes from."""
    place = torch.arange(21.0) - 10
    images = torch.stack([place.expand(21, 21), place[:, None].expand(21, 21)])[None]
    middle = (..., slice(6, 15), slice(6, 15))
    drawn(monkeypatch, normal=0.2, uniform=math.pi / 6)
    factor = 2**0.2
    assert torch.allclose(augmentation("scale")(images)[middle], (factor * images)[middle], atol=1e-4)
    stretched = images * torch.tensor([factor, 1 / factor])[:, None, None]
    assert torch.allclose(augmentation("stretch")(images)[middle], stretched[middle], atol=1e-4)
    turned = augmentation("rotate")(images)[middle]  # before and after the stretch: by 60 degrees in all
    radius = images[middle].norm(dim=1)
    assert torch.allclose(turned.norm(dim=1), radius, atol=1e-4)
    cosine = (turned * images[middle]).sum(1) / radius.square()
    assert torch.allclose(cosine[radius > 0], torch.tensor(0.5), atol=1e-4)


def test_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    images = photographs()
    drawn(monkeypatch, normal=0.3, one_of=1.0, uniform=2 * math.pi / 3)
    luma = images.mean(1, keepdim=True)
    torch.testing.assert_close(augmentation("brightness")(images), images + 0.3)
    torch.testing.assert_close(augmentation("contrast")(images), images * 2**0.3)
    torch.testing.assert_close(augmentation("luma_flip")(images), images - 2 * luma)
    torch.testing.assert_close(augmentation("saturation")(images), luma + 2**0.3 * (images - luma))
    third = augmentation("hue")(images)  # of a circle: red, green and blue change places
    assert any(torch.allclose(third, images.roll(shift, 1), atol=1e-5) for shift in (1, 2))


def test_gray_images_have_brightness_contrast_and_a_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    images = photographs(channels=1)
    drawn(monkeypatch, normal=0.3, one_of=1.0)
    assert torch.equal(augmentation("hue", "saturation", channels=1)(images), images)
    torch.testing.assert_close(augmentation("luma_flip", channels=1)(images), -images)
    both = augmentation("contrast", "brightness", channels=1)(images)
    torch.testing.assert_close(both, (images + 0.3) * 2**0.3, msg="in the order of the paper, not of the option")


def test_geometry_is_applied_in_the_papers_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flip and then a shift to the one side, not to the other."""
    images = photographs()
    drawn(monkeypatch, uniform=0.12, one_of=1.0)
    flipped = augmentation("flip")(images)
    torch.testing.assert_close(augmentation("shift", "flip")(images), augmentation("shift")(flipped))


@pytest.mark.parametrize("transform", ALL)
def test_the_mean_of_each_transform_is_that_of_its_distribution(transform: str) -> None:
    """Of half of the images nothing changes; what changes has the moments of the paper's distributions."""
    torch.manual_seed(0)
    count = 4000
    images = torch.zeros(count, 3, 8, 8)
    maps = dict(GEOMETRY + COLOURS)[transform](images)
    size = maps.shape[1] - 1
    matrix, offset = maps[:, :size, :size], maps[:, :size, size]
    trace, determinant = matrix.diagonal(dim1=1, dim2=2).sum(1), torch.linalg.det(matrix)
    expected = {
        "flip": (1.0, 0.0), "turn": (0.0, 1.0), "shift": (2.0, 1.0), "scale": (2 * ln(1), ln(2)), "rotate": (0.0, 1.0),
        "stretch": (2 * ln(1), 1.0), "move": (2.0, 1.0), "brightness": (3.0, 1.0), "contrast": (3 * ln(2.5), ln(7.5)),
        "luma_flip": (2.0, 0.0), "hue": (1.0, 1.0), "saturation": (1 + 2 * ln(5), ln(10)),
    }  # fmt: skip
    assert trace.mean().item() == approx(expected[transform][0], abs=5 * trace.std().item() / math.sqrt(count) + 1e-5)
    error = 5 * determinant.std().item() / math.sqrt(count) + 1e-5
    assert determinant.mean().item() == approx(expected[transform][1], abs=error)
    spread = {"shift": 0.0, "move": 8 * 0.125, "brightness": 0.2}.get(transform, 0.0)
    if transform != "shift":  # by a pixel at most, of 8
        assert offset.std(0).mean().item() == approx(spread, rel=0.05)
    assert offset.abs().max() <= 1 or transform == "move"


def ln(fifths: float) -> float:
    """The mean of 2^n, n of deviation 0.2 for each of `fifths`."""
    return math.exp((0.2 * fifths * math.log(2)) ** 2 / 2)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_p_is_the_share_of_images_that_a_transform_changes(p: float) -> None:
    torch.manual_seed(0)
    images = photographs(1, 1, 8, 8).expand(3000, -1, -1, -1)
    for transform in ("brightness", "scale", "rotate"):
        changed = (augmentation(transform, p=p, channels=1)(images) - images).abs().flatten(1).amax(1) > 1e-6
        assert changed.float().mean().item() == approx(p, abs=0.04), transform


def test_maps_act_on_their_own_images() -> None:
    images, eye = photographs(2), torch.eye(3)
    half = torch.stack([eye, torch.diag(torch.tensor([-1.0, 1.0, 1.0]))])
    assert torch.equal(resampled(images, half), torch.stack([images[0], images[1].flip(2)]))
    darker = torch.eye(4).repeat(2, 1, 1)
    darker[1, :3, 3] = -1.0
    assert torch.equal(recoloured(images, darker), torch.stack([images[0], images[1] - 1]))


def test_maps_that_keep_rows_and_columns_need_no_pixels_gathered_one_by_one() -> None:
    """As much is reflected at the edges, and every image is mapped in its own way."""
    images = photographs(6, height=9).double()
    maps = torch.eye(3, dtype=torch.float64).repeat(6, 1, 1)
    maps[:, 0, 0], maps[:, 1, 1] = torch.tensor([[1.0, -1.0, 0.6, 1.7, 4.0, 1.0], [1.0, 1.0, 1.3, -0.2, 3.0, 1.0]])
    maps[:, :2, 2] = torch.tensor([0.0, 2.0, -0.7, 25.3, 0.1, -31.0])[:, None] * torch.tensor([1.0, -2.0])
    torch.testing.assert_close(rescaled(images, maps), resampled(images, maps))


@pytest.mark.parametrize("side", [1, 2, 3])
def test_images_of_few_pixels_are_reflected_as_often_as_it_takes(side: int) -> None:
    images = torch.rand(6, 1, side, side)
    found = augmentation(channels=1)(images)
    assert found.shape == images.shape and found.isfinite().all()


def test_r1_passes_the_augmentation_and_its_gradient_is_that_of_finite_differences() -> None:
    """In a random direction of the weights of a small critic that is not linear."""
    torch.manual_seed(0)
    images, transform = torch.rand(3, 3, 6, 6, dtype=torch.float64), augmentation(p=0.7).double()
    weight, direction = torch.randn(2, 4, 108, dtype=torch.float64)

    def penalty(weight: Tensor) -> Tensor:
        torch.manual_seed(1)
        return r1_penalty(lambda x: (transform(x).flatten(1) @ weight.mT).tanh().sum(1), images)

    plain = r1_penalty(lambda x: (x.flatten(1) @ weight.mT).tanh().sum(1), images)
    assert penalty(weight).item() != approx(plain.item(), rel=0.01)
    (gradient,) = torch.autograd.grad(penalty(weight.requires_grad_()), weight)
    ahead, behind = (penalty(weight.detach() + step * direction).item() for step in (1e-5, -1e-5))
    assert (gradient * direction).sum().item() == approx((ahead - behind) / 2e-5, rel=1e-6)


def test_p_moves_by_one_step_in_every_fourth_batch_towards_the_target() -> None:
    """Real scores of which 9 in 10 are positive have a mean sign of 0.8, and of 3 in 4 one of 0.5."""
    control = AdaptiveAugmentation(("scale",), 1, target=0.6, step=0.1)
    much, little = torch.tensor([1.0] * 9 + [-1.0]), torch.tensor([3.0, 0.1, 0.2, -7.0])
    steps = [much] * 12 + [little] * 4 + [much, much, little, little] + [little] * 24
    found = []
    for scores in steps:
        control.observe(scores)
        found.append(round(control.p.item(), 6))
    assert found == [
        *[0.0] * 3, *[0.1] * 4, *[0.2] * 4, *[0.3] * 4, *[0.2] * 4, *[0.3] * 4, *[0.2] * 4, *[0.1] * 4, *[0.0] * 13,
    ]  # fmt: skip


def test_p_never_exceeds_1_and_stays_where_the_target_is_met() -> None:
    control = AdaptiveAugmentation(("scale",), 1, target=1.0, step=0.4)
    control.target = 0.5
    for _ in range(16):
        control.observe(torch.ones(3))
    assert control.p == 1.0
    for _ in range(8):
        control.observe(torch.tensor([1.0, 1.0, 1.0, -1.0]))
    assert control.p == 1.0


@pytest.mark.parametrize("micro_batch", [0, 4])
def test_p_rises_from_0_to_1_within_the_images_of_the_option(tmp_path, digits, micro_batch: int) -> None:
    """A target of -1 is always exceeded; the critic sees 8 real images a batch, whatever they are computed in."""
    ada = {"augment": "ada", "augment_target": -1.0, "augment_images": 96, "micro_batch": micro_batch, "loss": "hinge"}
    trained, _ = train_gan(tmp_path, digits, "8steps", **ada)
    sign_is_1 = trained.augment.p.item()
    assert sign_is_1 == approx(2 * 8 * 4 / 96) or sign_is_1 == approx(8 * 4 / 96)


def test_p_and_its_counters_survive_a_kill_to_the_byte(tmp_path, digits, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = {"augment": "ada", "augment_target": -1.0, "augment_images": 200, "critic_learning_rate": 0.02}
    style = {"network": "style", "r1": 0.01, "r1_every": 2, "path_length": 0.1, "path_every": 3}
    whole, _ = train_gan(tmp_path / "whole", digits, "11steps", **ada, **style)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    with killed_at(6, monkeypatch):
        train_gan(tmp_path / "killed", digits, "11steps", **ada, **style)
    resumed, _ = train_gan(tmp_path / "killed", digits, "11steps", **ada, **style)
    state = resumed.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in whole.state_dict().items())
    assert {"augment.p", "augment.signs", "augment.batches", "path_length.mean"} <= state.keys()
    assert state["augment.p"] > 0 and state["augment.batches"] == 3 and state["path_length.mean"] > 0


def ada(network: str = "conv", classes: int = 0, **config: object) -> GAN:
    torch.manual_seed(0)
    tiny = GAN.presets["tiny"] | {"network": network, "augment": "ada", **config}
    return GAN(DataSpec("toy", (3, 16, 16), classes), GANConfig(**tiny))


@pytest.mark.parametrize("network", ["conv", "residual", "style"])
def test_reals_and_fakes_are_transformed_in_both_updates_of_every_network(network: str) -> None:
    model = ada(network, r1=1.0)
    made: list[Tensor] = []
    model.augment.register_forward_hook(lambda module, args, out: made.append(out))
    scored: list[Tensor] = []
    model.critic.register_forward_pre_hook(lambda module, args: scored.append(args[0]))
    batch = Batch(torch.rand(16, 3, 16, 16) * 2 - 1)
    model.augment.p.fill_(0.5)
    for phase in ("critic", "generator", "r1"):
        model.zero_grad()
        losses = model.loss(phase, batch)
        losses["loss"].backward()
        assert losses["loss"].isfinite()
    assert [len(images) for images in made] == [32, 16, 16]
    assert len(made) == len(scored) and all(a is b for a, b in zip(made, scored)), "the critic sees nothing else"
    assert model.sample(4).shape == (4, 3, 16, 16) and len(made) == 3, "samples are never transformed"


def test_p_follows_the_real_images_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of generated images, which are the second half of what is scored."""
    model = ada()
    monkeypatch.setattr(model, "score", lambda images, labels: torch.tensor([1.0] * 16 + [-1.0] * 16))
    assert model.loss("critic", Batch(torch.zeros(16, 3, 16, 16)))["real_sign"] == 1 == model.augment.signs


def test_gradients_pass_the_transforms_to_the_generator_and_to_the_images_of_r1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where contrast is raised by a factor, slopes at the images as they are rise by it."""
    model = ada("style", transforms=("contrast",), r1=1.0).eval()
    images = torch.rand(16, 3, 16, 16) - 0.5
    model.augment.p.fill_(1.0)
    model.loss("generator", Batch(images))["loss"].backward()
    assert model.generator.constant.grad.abs().sum() > 0
    drawn(monkeypatch, normal=0.5)
    found = model.loss("r1", Batch(images))["penalty"].item()
    assert found == approx(2 * r1_penalty(lambda x: model.critic(x, None), images * 2**0.5).item(), rel=1e-4)


def test_a_learning_curve_has_p_and_the_mean_sign() -> None:
    model = ada()
    model.augment.p.fill_(0.25)
    losses = model.loss("critic", Batch(torch.zeros(16, 3, 16, 16)))
    assert losses["augment_p"] == 0.25 and -1 <= losses["real_sign"] <= 1
    for _ in range(4):
        model.loss("critic", Batch(torch.zeros(16, 3, 16, 16)))
    assert losses["augment_p"] == 0.25 != model.augment.p, "it is the value at that step"
    before = model.augment.p.clone()
    for _ in range(8):
        model.eval().loss("critic", Batch(torch.zeros(16, 3, 16, 16)))
    assert model.augment.p == before


def test_half_precision_leaves_the_transforms_exact() -> None:
    images = photographs()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augmentation(p=0.0)(images), images)


def chosen(*settings: str) -> GANConfig:
    (choice,) = make_experiment(None, {}, ["gan"], [f"gan.{setting}" for setting in settings]).models
    return configure(GAN, choice)


def test_transforms_are_chosen_by_name() -> None:
    assert chosen("augment=ada", 'transforms=["flip","shift"]').transforms == ("flip", "shift")
    with pytest.raises(BadInput, match="transforms"):
        chosen("augment=ada", 'transforms=["blur"]')


def test_scores_whose_sign_means_nothing_are_refused() -> None:
    with pytest.raises(BadInput, match="arbitrary with loss = 'wasserstein'"):
        chosen("augment=ada", "loss=wasserstein")
