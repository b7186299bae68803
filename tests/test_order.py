"""The order of sub-pixels against its definition, sub-pixel by sub-pixel."""

import pytest
import torch

from genbench_autoregressive.order import Order, categorical

SHAPES = pytest.mark.parametrize(("shape", "patch"), [((3, 4, 6), 1), ((3, 4, 6), 2), ((2, 5, 7), 2), ((1, 4, 5), 3)])


def levels(shape, n=2):
    return torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(0))


def sequence(shape, patch):
    """(colour, row, column) of every sub-pixel in order, None for one beyond the image."""
    c, height, width = shape
    for top in range(0, height, patch):
        for left in range(0, width, patch):
            for row in range(top, top + patch):
                for column in range(left, left + patch):
                    for colour in range(c):
                        yield (colour, row, column) if row < height and column < width else None


@SHAPES
def test_a_folded_image_is_the_sequence(shape, patch):
    order, images = Order(shape, patch), levels(shape)
    folded = order.fold(images)
    assert folded.shape == (2, *order.size, order.groups) and folded.dtype == torch.int64
    wanted = [0 if at is None else images[1][at].item() for at in sequence(shape, patch)]
    assert folded[1].flatten().tolist() == wanted
    assert order.inside().flatten().tolist() == [at is not None for at in sequence(shape, patch)]
    assert torch.equal(order.unfold(folded), images)


def test_without_folding_it_is_the_papers_order():
    assert (
        Order((3, 2, 2)).fold(levels((3, 2, 2)))[0].flatten().tolist()
        == levels((3, 2, 2))[0].permute(1, 2, 0).flatten().tolist()
    )


@SHAPES
def test_sub_pixels_beyond_the_image_cost_nothing(shape, patch):
    order = Order(shape, patch)
    folded = order.fold(levels(shape))
    uniform = torch.zeros(*folded.shape, 256)
    torch.testing.assert_close(order.log_prob(uniform, folded), torch.full((2,), -levels(shape)[0].numel() * 5.545177))
    logits = torch.randn(*folded.shape, 256, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    wanted = logits.log_softmax(-1).gather(-1, folded[..., None])[..., 0][:, order.inside()].sum(1)
    torch.testing.assert_close(order.log_prob(logits, folded), wanted)


@SHAPES
def test_what_is_drawn_knows_all_before_it_and_nothing_else(shape, patch):
    order, seen, shares = Order(shape, patch), [], []
    uniform, inside = torch.rand(2, *order.size, order.groups), order.inside()

    def draw(known, place, at):
        assert torch.equal(at, uniform[(slice(None), *place)])
        before = inside.flatten()[: len(seen)]
        assert known[1].flatten().tolist() == [(n + 1) * kept for n, kept in enumerate(before.tolist())] + [0] * (
            inside.numel() - len(seen)
        )
        seen.append(place)
        return torch.full((2,), len(seen))

    drawn = order.generate(uniform, draw, shares.append)
    assert seen == [tuple(place) for place in torch.ones_like(inside).nonzero().tolist()]
    assert order.fold(drawn)[0].flatten().tolist() == [
        (n + 1) * kept for n, kept in enumerate(inside.flatten().tolist())
    ]
    assert shares == sorted(shares) and shares[0] >= 0 and shares[-1] < 1


def test_uniform_values_become_levels_by_the_distribution_function():
    share = torch.zeros(256)
    share[3], share[7], share[255] = 0.25, 0.5, 0.25
    logits = share.log().expand(6, 256)
    uniform = torch.tensor([0.0, 0.2499, 0.2501, 0.7499, 0.7501, 1 - 2**-24])
    assert categorical(logits, uniform).tolist() == [3, 3, 7, 7, 255, 255]
