"""The Sparse Transformer: its patterns, its causality, its probabilities, its cache, and the published network."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from genbench import Batch, DataSpec
from genbench.images import LEVELS, bits_per_dim, to_float, to_uint8
from genbench.metering.flops import FlopCounter
from genbench_autoregressive import order, sparse_transformer
from genbench_autoregressive.levels import Levels
from genbench_autoregressive.order import categorical
from genbench_autoregressive.sparse import SparseAttention
from genbench_autoregressive.sparse_network import Continuation
from genbench_autoregressive.sparse_transformer import SparseTransformer

VALUES = {"patch": 1, "tokens": "values"}
LAYOUTS = [
    ((3, 4, 4), VALUES),
    ((1, 6, 4), {}),
    ((3, 3, 4), {"patch": 1}),
    ((2, 3, 5), {}),
    ((1, 3, 5), {"tokens": "values"}),
]
each_layout = pytest.mark.parametrize(("shape", "change"), LAYOUTS, ids=str)
each_pattern = pytest.mark.parametrize("pattern", ["local", "strided", "full"])


def built(shape=(1, 4, 4), num_classes=0, scale=0.3, **change):
    """A small model in float64, its weights away from their start."""
    torch.manual_seed(0)
    config = SparseTransformer.Config(**SparseTransformer.presets["tiny"] | change)
    model = SparseTransformer(DataSpec("toy", shape, num_classes), config).double().eval()
    for parameter in model.parameters():
        parameter.data += scale * torch.randn_like(parameter)
    return model


def images(shape, n=3):
    levels = torch.randint(0, LEVELS, (n, *shape), generator=torch.Generator().manual_seed(1))
    return to_float(levels.to(torch.uint8))


def seen(pattern, tokens, stride):
    """Which token a token attends to, by the definition of Child et al. 2019, section 4.3: bool (T, T)."""
    back = torch.arange(tokens)[:, None] - torch.arange(tokens)
    return (back >= 0) & {"local": back < stride, "strided": back % stride == 0, "full": back >= 0}[pattern]


@each_pattern
def test_attention_by_rows_and_columns_is_dense_attention_within_the_pattern(pattern):
    torch.manual_seed(0)
    attention = SparseAttention(12, 3, pattern, stride=4, tokens=20).double()
    tokens = torch.randn(2, 20, 12, dtype=torch.float64)
    query, key, value = attention.qkv(tokens).split((6, 6, 12), dim=2)
    wanted = []
    for head in range(3):
        q, k, v = query[..., 2 * head :][..., :2], key[..., 2 * head :][..., :2], value[..., 4 * head :][..., :4]
        scores = (q @ k.mT / math.sqrt(2)).masked_fill(~seen(pattern, 20, 4), -math.inf)
        wanted.append(scores.softmax(-1) @ v)
    assert torch.allclose(attention(tokens), attention.out(torch.cat(wanted, dim=2)), atol=1e-12)


@pytest.mark.parametrize(("pattern", "scores"), [("local", 40 * 10), ("strided", 40 * 8), ("full", 40 * 40)])
def test_the_work_of_attention_is_that_of_the_pattern(pattern, scores):
    """Scores, of 6 channels a pair, and what they weigh, of 12: 2 FLOPs for each of both."""
    attention = SparseAttention(12, 3, pattern, stride=5, tokens=40)
    tokens = torch.randn(2, 40, 12)
    with FlopCounter() as counter, torch.no_grad():
        attention(tokens)
    linear = 2 * 2 * 40 * (12 * 24 + 12 * 12)
    assert counter.flops - linear == 2 * 2 * scores * (6 + 12)


def dependence(model, levels):
    """Whether the logits of sub-pixel i depend on the level of sub-pixel j, bool (D, D), by derivatives.

    The embeddings of level j are multiplied by a gate; what is tested is the derivative with respect to the gate.
    """
    net = model.net
    gate = torch.ones(net.tokens, net.held, dtype=torch.float64, requires_grad=True)
    hooks = [net.values.register_forward_hook(lambda _, __, e: e * gate[: e.shape[1], : e.shape[2], None])]
    if net.held > 1:
        hooks += [net.head.known.register_forward_hook(lambda _, __, e: e * gate[: e.shape[1], : e.shape[2], None])]
    logits = net(levels).flatten(1, 3)[0] @ torch.randn(LEVELS, dtype=torch.float64)
    rows = [torch.autograd.grad(logit, gate, retain_graph=True)[0].flatten() for logit in logits]
    for hook in hooks:
        hook.remove()
    return torch.stack(rows) != 0


@each_layout
def test_a_logit_depends_on_all_levels_before_it_and_on_no_other(shape, change):
    """A column of tokens, then a row of them: after two blocks nothing is out of reach."""
    model = built(shape, attention=("strided", "local"), blocks=2, **change)
    found = dependence(model, model.order.fold(to_uint8(images(shape, 1))))
    assert torch.equal(found, torch.ones_like(found).tril(-1))


@each_pattern
@pytest.mark.parametrize("change", [VALUES, {"patch": 1}], ids=["values", "places"])
def test_one_block_reaches_as_far_as_its_pattern(pattern, change):
    """The token before stands where it is predicted, so that position t sees tokens through t - 1."""
    model = built((3, 4, 4), attention=(pattern,), blocks=1, **change)
    found = dependence(model, model.order.fold(to_uint8(images((3, 4, 4), 1))))
    held, tokens = model.net.held, model.net.tokens
    position = seen(pattern, tokens, tokens // 4)
    before = F.pad(position[:, 1:], (0, 1))  # position j + 1 holds token j
    wanted = before.repeat_interleave(held, 0).repeat_interleave(held, 1)
    wanted |= torch.block_diag(*[torch.ones(held, held).tril(-1)] * tokens).bool()
    assert torch.equal(found, wanted)


@pytest.mark.parametrize(
    ("shape", "change"),
    [((1, 1, 2), VALUES), ((1, 2, 1), VALUES), ((2, 1, 1), {"patch": 1}), ((1, 2, 1), {"patch": 2})],
    ids=["row", "column", "colours", "patch"],
)
def test_the_probabilities_of_all_images_sum_to_one(shape, change):
    model = built(shape, width=8, hidden=8, head=8, scale=0.5, **change)
    first, second = torch.meshgrid(torch.arange(LEVELS), torch.arange(LEVELS), indexing="ij")
    every = torch.stack([first, second], dim=-1).view(-1, *shape).to(torch.uint8)
    with torch.no_grad():
        probability = model.log_prob(to_float(every)).exp()
    assert probability.sum().item() == pytest.approx(1, abs=1e-9)
    assert probability.std() > 0.1 * probability.mean()


@each_layout
def test_an_untrained_network_gives_eight_bits(shape, change):
    model = SparseTransformer(DataSpec("toy", shape), SparseTransformer.Config(**change))
    bits = bits_per_dim(model.log_prob(images(shape)), model.data.dims, discrete=True)
    assert bits.tolist() == pytest.approx([8, 8, 8], abs=1e-5)


@each_layout
@pytest.mark.parametrize("pattern", [("strided", "local"), ("local", "full")], ids="-".join)
def test_sampling_with_a_cache_is_sampling_without(shape, change, pattern):
    model, labels = built(shape, 3, attention=pattern, blocks=3, **change), torch.tensor([2, 0])
    uniform = torch.rand(2, *model.order.size, model.order.groups, generator=torch.Generator().manual_seed(0))

    def uncached(levels, place, at):
        return categorical(model.net(levels, labels)[(slice(None), *place)], at)

    with torch.no_grad():
        slow = model.order.generate(uniform, uncached, lambda share: None)
        fast = model.order.generate(uniform, Continuation(model.net, labels).draw, lambda share: None)
        assert torch.equal(slow, fast) and len(slow.unique()) > 5
        folded, steps = model.order.fold(slow), Continuation(model.net, labels)
        logits = [steps.logits(folded, tuple(place)) for place in torch.ones(folded.shape[1:]).nonzero().tolist()]
        assert torch.allclose(torch.stack(logits, 1).view(*folded.shape, LEVELS), model.net(folded, labels), atol=1e-10)


def test_the_local_cache_holds_no_more_than_the_band():
    """The published network: 96 local and 32 strided blocks, of 128 keys and 256 values a token."""
    with torch.device("meta"):
        net = paper().net
    assert sum(block.attention.cached for block in net.blocks) == (96 * 96 + 32 * 3072) * 384


def test_scores_and_samples_do_not_depend_on_how_many_fit_into_memory(monkeypatch):
    model, labels, shares = built((1, 3, 4), 3), torch.tensor([2, 0, 1, 1, 2]), []
    few = images((1, 3, 4), 5)

    def both():
        torch.manual_seed(3)
        with torch.no_grad():
            return model.log_prob(few, labels), model.sample(5, labels)

    whole = both()
    monkeypatch.setattr(order, "LOGITS", 2 * 12 * LEVELS)
    monkeypatch.setattr(sparse_transformer, "CACHED", 1)
    model.report = shares.append
    parts = both()
    assert torch.allclose(parts[0], whole[0], atol=1e-10) and torch.equal(parts[1], whole[1])
    assert shares == sorted(shares) and shares[0] == 0 and 0.9 < shares[-1] < 1


def paper(shape=(3, 32, 32)):
    config = SparseTransformer.Config(**SparseTransformer.presets["paper"])
    return SparseTransformer(DataSpec("toy", shape), config)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_published_network():
    """Child et al. 2019, section 7.1: 59 M parameters in 128 blocks, 3,072 tokens; the start token has 256 of them."""
    with torch.device("meta"):
        model = paper()
        assert count(model) == 59_196_672 + 256
        assert sum(p.numel() for p in model.net.blocks.parameters() if p.dim() == 2) == 58_720_256
        assert model.net.tokens == 3072 == model.nfe
        assert [block.attention.pattern for block in model.net.blocks[:5]] == ["strided", *["local"] * 3, "strided"]
        assert {block.attention.stride for block in model.net.blocks} == {96}
        assert model.net(torch.zeros(2, 32, 32, 3, dtype=torch.int64)).shape == (2, 32, 32, 3, LEVELS)
    (phase,) = model.phases()
    assert (phase.clip, phase.warmup, model.config.dropout, model.config.batch_size) == (1.0, 5000, 0.25, 16)
    decay = {p.dim() > 1: group["weight_decay"] for group in phase.optimizer.param_groups for p in group["params"]}
    assert decay == {True: 0.01, False: 0.0} and len(phase.parameters) == len(list(model.parameters()))


def test_weights_start_as_in_the_paper():
    """Variance 0.125 / inputs; the last layer of a branch smaller by sqrt(2 N); no logits."""
    torch.manual_seed(0)
    model = SparseTransformer(
        DataSpec("toy", (1, 8, 8)), SparseTransformer.Config(width=128, hidden=256, blocks=4, **VALUES)
    )
    block = model.net.blocks[0]
    for layer, scale in ((block.attention.qkv, 1), (block.widen, 1), (block.attention.out, 8), (block.narrow, 8)):
        wanted = 0.125 / layer.in_features / scale
        assert layer.weight.var().item() == pytest.approx(wanted, rel=0.05) and not layer.bias.any()
    assert not model.net.head.levels.table.any()


@pytest.mark.slow
def test_the_published_network_trains_and_samples():
    torch.manual_seed(0)
    model = paper((3, 4, 4))
    model.net.head.levels.table.data += 0.01 * torch.randn_like(model.net.head.levels.table)
    (phase,) = model.phases()
    model.loss("train", Batch(images((3, 4, 4), 1))).backward()
    for name, parameter in phase.module.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name
    with torch.inference_mode():
        assert model.eval().sample(1).shape == (1, 3, 4, 4)


@pytest.mark.parametrize("count", [0, 3])
def test_similar_levels_learn_from_each_other_by_their_waves(count):
    """A step that moves the vector of level 100 of the second sub-pixel moves that of 102 too, if there are waves."""
    torch.manual_seed(0)
    levels = Levels(3, 4, count, 0.1, 0.1).double()
    before = levels().detach().clone()
    levels()[1, 100].sum().backward()
    with torch.no_grad():
        for parameter in levels.parameters():
            parameter += parameter.grad
        moved = (levels() - before).sum(-1)
    assert not moved[[0, 2]].any()
    assert moved[1].argmax() == 100 and (moved[1, 102] > 0.5 * moved[1, 100]) == (count > 0)
    assert (moved[1].count_nonzero() > 200) == (count > 0)
