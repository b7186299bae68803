"""How models take what is shown of images: six families, their samples, and the flow's density."""

import pytest
import torch

from genbench import Batch, Condition, ConditionSpec, DataSpec
from genbench_ddpm import DDPM
from genbench_flow import Flow
from genbench_flow_matching import FlowMatching
from genbench_gan import GAN
from genbench_ldm import LatentDiffusion
from genbench_vae import VAE

FAMILIES = [DDPM, LatentDiffusion, FlowMatching, GAN, VAE, Flow]
each_family = pytest.mark.parametrize("family", FAMILIES, ids=[family.name for family in FAMILIES])


def spec(side=8, kind="hole"):
    shape = (1, side, side) if kind == "hole" else (1, side // 2, side // 2)
    return DataSpec("toy", (1, side, side), 0, ConditionSpec(kind, shape))


def shown(n, side=8, seed=0):
    """Images without their right half."""
    image = torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    hole = torch.zeros(n, 1, side, side, dtype=torch.bool)
    hole[..., side // 2 :] = True
    return Condition({"hole": hole, "image": image.masked_fill(hole, 0)})


def build(family, data, **options):
    """The preset `tiny`, prepared, with every weight moved, so that nothing is an identity any more."""
    torch.manual_seed(0)
    model = family(data, family.Config(**{**family.presets["tiny"], **options}))
    size, dims = 8, data.shape
    images = torch.rand(size, *dims) * 1.98 - 0.99
    given = (
        shown(size, dims[1]) if data.kind == "hole" else Condition({"image": torch.rand(size, *data.condition.shape)})
    )
    for phase in model.phases():
        model.prepare(phase.name, Batch.of(images, given))
    with torch.no_grad():
        for parameter in model.parameters():
            fan = parameter[0].numel() if parameter.dim() > 1 else 1
            parameter += 0.2 * torch.randn_like(parameter) / max(fan, 1) ** 0.5
    return model.eval()


def drawn(model, given):
    torch.manual_seed(1)
    with torch.no_grad():
        return model.sample(len(given), given)


@each_family
def test_samples_depend_on_what_is_shown_to_each(family):
    model, one = build(family, spec()), shown(2)
    other = Condition({"hole": one["hole"], "image": torch.cat([one["image"][:1], shown(1, seed=5)["image"]])})
    first, same, changed = drawn(model, one), drawn(model, one), drawn(model, other)
    assert torch.equal(first, same) and torch.allclose(first[0], changed[0], atol=1e-5)
    assert not torch.allclose(first[1], changed[1], atol=1e-5)


@each_family
def test_every_phase_learns_from_what_is_shown(family):
    """Weights that only the maps pass get a gradient, in one phase at least."""
    model, given = build(family, spec()).train(), shown(8)
    images, moved = torch.rand(8, 1, 8, 8) * 1.98 - 0.99, 0.0
    maps = given["image"].clone().requires_grad_()
    for phase in model.phases():
        loss = model.loss(phase.name, Batch.of(images, Condition({"hole": given["hole"], "image": maps})))
        loss = loss["loss"] if isinstance(loss, dict) else loss
        (gradient,) = torch.autograd.grad(loss, maps, allow_unused=True)
        moved += 0.0 if gradient is None else float(gradient.abs().sum())
    assert moved > 0


@each_family
def test_small_images_are_taken_too(family):
    model = build(family, spec(kind="image"))
    given = Condition({"image": torch.rand(3, 1, 4, 4)})
    assert drawn(model, given).shape == (3, 1, 8, 8)


def test_the_density_of_the_flow_under_a_condition_is_that_of_its_jacobian():
    model, given = build(Flow, spec(4), levels=1).double(), shown(1, 4)
    x = torch.rand(1, 1, 4, 4, dtype=torch.double) * 1.98 - 0.99

    def latents(flat):
        return torch.cat([z.flatten() for z in model.encode(flat.view(x.shape), given)[0]])

    jacobian = torch.autograd.functional.jacobian(latents, x.flatten())
    torch.testing.assert_close(model.encode(x, given)[1][0], torch.linalg.slogdet(jacobian).logabsdet)
    torch.testing.assert_close(model.decode(model.encode(x, given)[0], given), x, atol=1e-6, rtol=0)


def test_the_first_of_the_coarsest_pixels_depends_on_what_is_shown_too():
    model, one, other = build(Flow, spec(4), levels=1, steps=1), shown(1, 4), shown(1, 4, seed=5)
    torch.manual_seed(0)
    latents = model.base_sample(1)
    first, second = (model.decode(latents, given)[0, 0, 0, 0] for given in (one, other))
    assert abs(first - second) > 1e-5


@pytest.mark.parametrize("size", [6, 10, 33, 60])
def test_maps_of_sides_that_do_not_divide_stay_in_their_places(size):
    """Every layer of the GAN sees each shown pixel where its own is, though feature maps stand for more than that."""
    model, given, seen = build(GAN, spec(size), detail=4), shown(2, size), []
    for layer in model.generator.layers:
        layer.register_forward_hook(lambda _, inputs, out: seen.append((inputs[1], out)))
    drawn(model, given)
    for maps, out in seen:
        assert torch.equal(maps[..., :size, :size], given.maps((size, size)))
        assert maps.shape[2] % out.shape[2] == maps.shape[3] % out.shape[3] == 0, "a cell covers whole pixels"
    assert seen[-1][1].shape[2:] == seen[-1][0].shape[2:]


@pytest.mark.parametrize(
    ("family", "options"),
    [
        (GAN, {"network": "residual"}),
        (GAN, {"augment": "ada"}),
        (Flow, {"mixing": "conv"}),
        (Flow, {"dequantization": "variational"}),
        (DDPM, {"network": "original"}),
    ],
)
def test_networks_that_take_no_maps_are_refused(family, options):
    with pytest.raises(ValueError, match="condition"):
        family(spec(), family.Config(**options))
