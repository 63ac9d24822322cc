"""Merging and pruning in timm's ViTs, against timm's own attention and duplicated tokens."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snt_core.common.vision import torchvision
from snt_core.methods.compress.prune import prune_magnitude
from snt_core.methods.compress.quantize import fake_quantize_weights, freeze, quantize_weights
from snt_core.methods.compress.token_blocks import attention, packed_attention
from snt_core.methods.compress.token_vit import merge_tokens, prune_tokens
from snt_core.methods.compress.tokens import match, merge

torchvision()  # timm imports it

import timm  # noqa: E402

layers = timm.models.vision_transformer


class Gated(layers.Attention):
    def __init__(self, dim: int, **options: Any) -> None:
        super().__init__(dim, gated=True, **options)


SMALL = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 4, "num_heads": 2}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "layer scale": {"init_values": 0.1, "no_embed_class": True},
    "registers": {"reg_tokens": 3},
    "query and key norms": {"qk_norm": True, "scale_attn_norm": True},
    "gate": {"attn_layer": Gated},
    "average of all": {"global_pool": "avg", "class_token": False},
    "average": {"global_pool": "avg", "reg_tokens": 1, "pre_norm": True},
    "maximum": {"global_pool": "avgmax", "fc_norm": False},
    "attention pool": {"global_pool": "map"},
    "distilled": {"cls": timm.models.deit.VisionTransformerDistilled},
}
kinds = pytest.mark.parametrize("kind", KINDS)
fused = pytest.mark.parametrize("fused", [True, False])


def vit(cls: Any = timm.models.VisionTransformer, *, fused: bool = True, **options: Any) -> Any:
    """16 patches, every parameter random, so that none is without effect."""
    torch.manual_seed(0)
    model = cls(num_classes=5, **SMALL | options).eval()
    for p in model.parameters():
        p.data.add_(torch.randn_like(p), alpha=0.2)
    for block in model.blocks:
        if hasattr(block, "attn"):
            block.attn.fused_attn = fused
    return model


def images(n: int = 3) -> Tensor:
    return torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def compressed(model: nn.Module, r: int = 3, keep_ratio: float = 0.5) -> list[nn.Module]:
    """The model merged and, where it has a class token, pruned."""
    merged = [merge_tokens(model, r)]
    return merged if model.cls_token is None else [*merged, prune_tokens(model, keep_ratio)]


def watch(module: nn.Module) -> list[Tensor]:
    """Outputs of the module in later forward passes."""
    seen: list[Tensor] = []
    module.register_forward_hook(lambda _, __, out: seen.append(out.detach()))
    return seen


@kinds
@fused
@torch.no_grad()
def test_the_mildest_setting_is_the_identity(kind: str, fused: bool) -> None:
    model = vit(fused=fused, **KINDS[kind])
    for other in compressed(model, 0, 1.0):
        torch.testing.assert_close(other(images()), model(images()))
        features = model.forward_features(images())
        torch.testing.assert_close(other.forward_features(images()), features)


@kinds
@fused
@pytest.mark.parametrize(("r", "other"), [(1, -1), (2, -1), (99, 1)])
@torch.no_grad()
def test_merging_equal_patches_changes_nothing(kind: str, fused: bool, r: int, other: int) -> None:
    # Equal tokens stay equal from block to block: one that counts for all of them is exact, in the
    # attention and in every pooling. Of two kinds of patches, one may merge more than the other.
    model = vit(fused=fused, **KINDS[kind])
    model.pos_embed.data[:, -16:] = 0
    flat = torch.randn(3, 3, 1, 1).expand(-1, -1, 16, 16).clone()
    flat[..., 8:, :] *= other
    merged = merge_tokens(model, r)
    torch.testing.assert_close(merged(flat), model(flat), atol=1e-4, rtol=1e-4)
    features = model.forward_features(flat)
    torch.testing.assert_close(merged.forward_features(flat), features, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["plain", "query and key norms"])
@fused
@torch.no_grad()
def test_attention_equals_timms_to_duplicated_tokens(kind: str, fused: bool) -> None:
    layer = vit(fused=fused, **KINDS[kind]).double().blocks[0].attn
    x = torch.randn(1, 6, 32, dtype=torch.float64)
    counts = torch.tensor([1, 3, 1, 7, 2, 1])
    out = attention(layer, x, counts.double().view(1, 6, 1))[0]
    many = layer(x.repeat_interleave(counts, 1))
    torch.testing.assert_close(out.repeat_interleave(counts, 1), many)


@kinds
@torch.no_grad()
def test_a_block_merges_by_its_keys_before_the_mlp(kind: str) -> None:
    model = vit(**KINDS[kind]).double()
    block = model.blocks[0]
    keys = watch(block.attn.k_norm)
    x = torch.randn(2, 16 + model.num_prefix_tokens, 32, dtype=torch.float64)
    middle = x + block.ls1(block.attn(block.norm1(x)))
    middle, size = merge(middle, match(keys[0].mean(1), 3, model.num_prefix_tokens))
    expected = middle + block.ls2(block.mlp(block.norm2(middle)))
    found, found_size, position = merge_tokens(model, 3).blocks[0].compact(x, None, None)
    torch.testing.assert_close(found, expected)
    assert torch.equal(found_size, size)
    assert position[0].bincount().tolist() == size[0, :, 0].tolist()


@pytest.mark.parametrize("kind", ["plain", "layer scale", "registers", "distilled"])
@torch.no_grad()
def test_a_block_keeps_the_patches_that_timms_softmax_ranks_first(kind: str) -> None:
    model = vit(fused=False, **KINDS[kind]).double()
    prefix, block = model.num_prefix_tokens, model.blocks[1]
    softmax = watch(block.attn.attn_drop)
    x = torch.randn(2, prefix + 16, 32, dtype=torch.float64)
    middle = x + block.ls1(block.attn(block.norm1(x)))
    after = middle + block.ls2(block.mlp(block.norm2(middle)))
    pruned = prune_tokens(model, 0.3).blocks[1](x)
    for image, tokens, weights in zip(pruned, after, softmax[0].mean(1)[:, 0].tolist()):
        patches = range(prefix, prefix + 16)
        best = sorted(sorted(patches, key=lambda n: weights[n])[-5:])
        torch.testing.assert_close(image, tokens[[*range(prefix), *best]])


@pytest.mark.parametrize(("depth", "where"), [(12, [4, 7, 10]), (24, [7, 13, 19]), (2, [1, 2])])
@torch.no_grad()
def test_pruning_takes_place_in_three_blocks(depth: int, where: list[int]) -> None:
    pruned = prune_tokens(vit(depth=depth), 0.5)
    seen = [watch(block.norm2) for block in pruned.blocks]
    pruned(images())
    counts = [17] + [out[0].shape[1] for out in seen]
    assert [i for i in range(1, depth + 1) if counts[i] < counts[i - 1]] == where
    assert sorted({*counts}, reverse=True) == [17, 9, 5, 3][: len(where) + 1]


@torch.no_grad()
def test_each_block_merges_until_one_patch_is_left() -> None:
    merged = merge_tokens(vit(depth=6), 5)
    seen = [watch(block.norm2) for block in merged.blocks]
    merged(images())
    assert [out[0].shape[1] for out in seen] == [12, 7, 4, 3, 2, 2]


@kinds
@torch.no_grad()
def test_the_original_stays_and_the_copy_is_of_its_kind(kind: str) -> None:
    model = vit(**KINDS[kind]).train()
    model.blocks.eval()[1].train()
    modes = {name: m.training for name, m in model.named_modules()}
    before, blocks = copy.deepcopy(model.state_dict()), list(model.blocks)
    for other in compressed(model):
        assert type(other) is type(model)
        assert list(other.state_dict()) == list(before)
        assert {name: m.training for name, m in other.named_modules()} == modes
        for p in other.parameters():
            p.zero_()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert list(model.blocks) == blocks


@pytest.mark.parametrize("i", [0, 1])
@torch.no_grad()
def test_survives_pickle_and_concurrent_forward_passes(i: int) -> None:
    fewer = compressed(vit())[i]
    batches = [images(n) for n in (1, 5, 2, 4, 3, 6)] * 3
    expected = [fewer(x) for x in batches]
    torch.testing.assert_close(pickle.loads(pickle.dumps(fewer))(batches[1]), expected[1])
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda x: fewer(x).detach(), batches))
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_weights_may_be_compressed_before_or_after() -> None:
    for shrink in (
        partial(prune_magnitude, sparsity=0.5),
        partial(quantize_weights, weight_bits=4),
    ):
        for small_first, fewer in zip(compressed(shrink(vit())), compressed(vit())):
            torch.testing.assert_close(small_first(images()), shrink(fewer)(images()))


@fused
def test_trains_with_the_dropout_of_the_model(fused: bool) -> None:
    rates = {"attn_drop_rate": 0.3, "proj_drop_rate": 0.2, "drop_path_rate": 0.1}
    model = vit(fused=fused, **rates).train()
    model.set_grad_checkpointing()
    results = []
    for other in (model, *compressed(model, 0, 1.0)):
        torch.manual_seed(2)
        loss = other(images()).square().sum()
        results.append(torch.autograd.grad(loss, other.parameters()))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


def test_can_be_fine_tuned_quantized() -> None:
    for tuned in compressed(fake_quantize_weights(vit(), 4).train()):
        tuned(images()).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in tuned.parameters())
        torch.testing.assert_close(freeze(tuned).eval()(images()), tuned.eval()(images()))


@kinds
@fused
@torch.no_grad()
def test_bf16_autocast(kind: str, fused: bool) -> None:
    model = vit(fused=fused, **KINDS[kind])
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(merge_tokens(model, 0)(images()), model(images()))
        rounded = [other(images(9)) for other in compressed(model)]
    for low, other in zip(rounded, compressed(model)):
        # where rounding changes what is merged or kept, an image may differ by more
        assert (low - other(images(9))).abs().amax(1).median() < 0.1


@pytest.mark.parametrize(
    ("fused", "r", "masks"),
    [(True, 0, [False] * 4), (True, 1, [False, True, True, True]), (False, 1, [])],
)
@torch.no_grad()
def test_the_fused_kernel_runs_and_without_mask_while_all_sizes_are_1(
    monkeypatch: pytest.MonkeyPatch, fused: bool, r: int, masks: list[bool]
) -> None:
    calls: list[bool] = []
    kernel = F.scaled_dot_product_attention

    def counting(*args: Any, attn_mask: Tensor | None = None, **options: Any) -> Tensor:
        calls.append(attn_mask is not None)
        return kernel(*args, attn_mask=attn_mask, **options)

    merged = merge_tokens(vit(fused=fused), r)
    monkeypatch.setattr(F, "scaled_dot_product_attention", counting)
    merged(images())
    assert calls == masks


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: vit(block_fn=layers.ParallelScalingBlock), "ParallelScalingBlock"),
        (lambda: vit(block_fn=layers.ParallelThingsBlock), "ParallelThingsBlock"),
        (lambda: vit(block_fn=layers.ResPostBlock), "ResPostBlock"),
        (lambda: vit(attn_layer="diff"), "DiffAttention"),
        (lambda: timm.models.Eva(**SMALL), "EvaBlock"),
        (lambda: timm.models.SwinTransformer(28, depths=(1,), num_heads=(3,)), "SwinTransformer"),
        (lambda: merge_tokens(vit(), 1), "MergeBlock"),
        (lambda: nn.Linear(2, 2), "Linear"),
    ],
)
def test_other_models_are_refused_by_name(build: Callable[[], nn.Module], name: str) -> None:
    model = build()
    for way in (partial(merge_tokens, r=0), partial(prune_tokens, keep_ratio=1.0)):
        with pytest.raises(ValueError, match=rf"^[^\n]*\b{name}\b[^\n]*$"):
            way(model)


def test_arguments_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="r -1 is negative"):
        merge_tokens(vit(), -1)
    for ratio in (0.0, -0.5, 1.5, float("nan")):
        with pytest.raises(ValueError, match=rf"keep_ratio {ratio} is outside \(0, 1\]"):
            prune_tokens(vit(), ratio)
    with pytest.raises(ValueError, match="no class token"):
        prune_tokens(vit(**KINDS["average of all"]), 0.5)


@kinds
@torch.no_grad()
def test_maps_of_a_merged_vit_are_those_of_its_blocks(kind: str) -> None:
    # Of equal patches every map is known: the model's own.
    model = vit(**KINDS[kind])
    model.pos_embed.data[:, -16:] = 0
    flat = torch.randn(3, 3, 1, 1).expand(-1, -1, 16, 16).clone()
    merged = merge_tokens(model, 3)
    for options in (
        {},
        {"indices": [0, 2], "output_fmt": "NLC", "norm": True},
        {"stop_early": True},
    ):
        last, maps = merged.forward_intermediates(flat, **options)
        expected, their_maps = model.forward_intermediates(flat, **options)
        torch.testing.assert_close((last, maps), (expected, their_maps), atol=1e-4, rtol=1e-4)
    found = merged.get_intermediate_layers(flat, n=2, reshape=True)
    torch.testing.assert_close(
        found, model.get_intermediate_layers(flat, n=2, reshape=True), atol=1e-4, rtol=1e-4
    )
    # and of any images, the last map is what the head reads
    last, _ = merged.forward_intermediates(images())
    torch.testing.assert_close(last, merged.forward_features(images()))


@torch.no_grad()
def test_hooks_on_merged_blocks_see_maps_of_all_patches() -> None:
    merged = merge_tokens(vit(), 3)
    expected = merged(images())
    seen = [watch(block) for block in merged.blocks]
    torch.testing.assert_close(merged(images()), expected)
    _, maps = merged.forward_intermediates(images(), output_fmt="NLC")
    for out, features in zip(seen, maps, strict=True):
        torch.testing.assert_close(out[0][:, 1:], features)


def test_maps_of_a_pruned_vit_are_refused() -> None:
    # 8 of 16 patches would pass as a map of half the channels
    pruned = prune_tokens(vit(), 0.5)
    for read in (pruned.forward_intermediates, pruned.get_intermediate_layers):
        with pytest.raises(ValueError, match=r"^a pruned ViT has no map[^\n]*$"):
            read(images())
    assert pickle.loads(pickle.dumps(pruned))(images()).shape == (3, 5)


@pytest.mark.parametrize("i", [0, 1])
def test_attention_masks_are_refused(i: int) -> None:
    fewer = compressed(vit())[i]
    for mask in ({"attn_mask": torch.ones(17, 17, dtype=torch.bool)}, {"is_causal": True}):
        with pytest.raises(ValueError, match=r"^an attention mask[^\n]*$"):
            fewer(images(), **mask)


def test_a_merged_block_alone_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^a block of a merged ViT[^\n]*$"):
        merge_tokens(vit(), 1).blocks[1](torch.randn(2, 17, 32))


def test_gradient_checkpointing_of_a_merged_vit_changes_no_gradient() -> None:
    merged = merge_tokens(vit(), 3).train()
    gradients = []
    for enable in (False, True):
        merged.set_grad_checkpointing(enable)
        loss = merged(images()).square().sum()
        gradients.append(torch.autograd.grad(loss, merged.parameters()))
    torch.testing.assert_close(*gradients)


@torch.no_grad()
def test_images_of_other_sizes_and_patch_dropout() -> None:
    model = vit(dynamic_img_size=True, patch_drop_rate=0.5)
    larger = torch.randn(2, 3, 24, 32)
    for other in compressed(model):
        assert other(larger).isfinite().all()
    maps = merge_tokens(model, 3).forward_intermediates(larger, intermediates_only=True)
    assert [m.shape for m in maps] == [(2, 32, 6, 8)] * 4
    for other in compressed(model.train()):
        assert other(images()).isfinite().all()


vision = torchvision().models.vision_transformer


def twins() -> tuple[Any, Any]:
    """torchvision's and timm's ViT with the same weights."""
    theirs = vit(mlp_ratio=2)
    ours = vision.VisionTransformer(16, 4, 4, 2, 32, 64, num_classes=5).eval()
    names = {
        "cls_token": "class_token",
        "pos_embed": "encoder.pos_embedding",
        "patch_embed.proj": "conv_proj",
        "blocks.": "encoder.layers.encoder_layer_",
        "norm1": "ln_1",
        "norm2": "ln_2",
        "attn.qkv.": "self_attention.in_proj_",
        "attn.proj": "self_attention.out_proj",
        "fc1": "0",
        "fc2": "3",
    }
    weights = {}
    for key, value in theirs.state_dict().items():
        if key.startswith(("norm.", "head.")):
            key = key.replace("norm.", "encoder.ln.").replace("head.", "heads.head.")
        for old, new in names.items():
            key = key.replace(old, new)
        weights[key] = value
    ours.load_state_dict(weights)
    return ours, theirs


@torch.no_grad()
def test_torchvisions_vit_merges_and_prunes_as_timms() -> None:
    ours, theirs = twins()
    torch.testing.assert_close(ours(images()), theirs(images()))
    for shrink in (
        partial(merge_tokens, r=3),
        partial(merge_tokens, r=99),
        partial(prune_tokens, keep_ratio=0.5),
    ):
        fewer = shrink(ours)
        torch.testing.assert_close(fewer(images()), shrink(theirs)(images()))
        assert type(fewer) is type(ours)
        assert list(fewer.state_dict()) == list(ours.state_dict())
        torch.testing.assert_close(pickle.loads(pickle.dumps(fewer))(images()), fewer(images()))
    assert torch.equal(merge_tokens(ours, 0)(images()), ours(images()))
    assert torch.equal(prune_tokens(ours, 1.0)(images()), ours(images()))


@torch.no_grad()
def test_packed_attention_equals_torchs_to_duplicated_tokens() -> None:
    layer = nn.MultiheadAttention(32, 4, batch_first=True).double().eval()
    x = torch.randn(1, 6, 32, dtype=torch.float64)
    counts = torch.tensor([1, 3, 1, 7, 2, 1])
    out = packed_attention(layer, x, counts.double().view(1, 6, 1))[0]
    many = x.repeat_interleave(counts, 1)
    expected = layer(many, many, many, need_weights=False)[0]
    torch.testing.assert_close(out.repeat_interleave(counts, 1), expected)


def test_a_torchvision_vit_is_fine_tuned_with_its_dropout() -> None:
    ours, _ = twins()
    for fewer in (merge_tokens(ours, 2), prune_tokens(ours, 0.5)):
        fewer.train()(images()).sum().backward()
        assert all(p.grad is not None for p in fewer.parameters())
    ours.encoder.layers[1].self_attention.batch_first = False
    with pytest.raises(ValueError, match="EncoderBlock with a MultiheadAttention"):
        merge_tokens(ours, 1)


def test_a_compiled_vit_is_opened() -> None:
    model = vit()
    assert type(merge_tokens(torch.compile(model), 1)) is type(model)
