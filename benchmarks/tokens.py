"""Token merging in a ViT-tiny at 224 pixels: speed-up over no merging."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import Row, in_turn, quotient
from snt_core.common.vision import torchvision
from snt_core.methods.compress.token_vit import merge_tokens

RATES = (0, 8, 16)
BATCH = 16
ROUNDS = 9


def rows(log: Callable[[str], None]) -> list[Row]:
    torchvision()
    import timm

    torch.manual_seed(0)
    plain = timm.create_model("vit_tiny_patch16_224", num_classes=1000).eval()
    images = torch.randn(BATCH, 3, 224, 224)
    found = []
    for r in RATES:
        nets = {"plain": plain, "ours": merge_tokens(plain, r), "peer": published(plain, r)}
        with torch.no_grad():
            seconds = in_turn({k: lambda net=net: net(images) for k, net in nets.items()}, ROUNDS)
        ours, peer = (quotient(seconds, "plain", name) for name in ("ours", "peer"))
        log(f"r = {r}: ours {ours:.2f}, peer {peer:.2f}")
        row = Row(work=f"token-merge-r{r}", ours=ours, peer=peer, unit="speed-up", runs=ROUNDS)
        found.append(row)
    return found


def published(model: nn.Module, r: int) -> nn.Module:
    """The published way: attention by explicit products, gather and scatter; class token first."""
    model = copy.deepcopy(model)
    model.blocks = _Blocks([_Block(block, r) for block in model.blocks])
    return model


class _Blocks(nn.ModuleList):
    def forward(self, x: Tensor) -> Tensor:
        size = None
        for block in self:
            x, size = block(x, size)
        return x


class _Block(nn.Module):
    def __init__(self, block: nn.Module, r: int) -> None:
        super().__init__()
        self.block, self.r = block, r

    def forward(self, x: Tensor, size: Tensor | None) -> tuple[Tensor, Tensor | None]:
        block, attn = self.block, self.block.attn
        B, N, C = x.shape
        y = block.norm1(x)
        q, k, v = attn.qkv(y).reshape(B, N, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
        logits = q * attn.scale @ k.transpose(-2, -1)
        if size is not None:
            logits = logits + size.log()[:, None, None, :, 0]
        x = x + attn.proj((logits.softmax(-1) @ v).transpose(1, 2).reshape(B, N, C))
        if self.r:
            x, size = _merge(x, k.mean(1), self.r, size)
        return x + block.mlp(block.norm2(x)), size


def _merge(x: Tensor, metric: Tensor, r: int, size: Tensor | None) -> tuple[Tensor, Tensor]:
    size = torch.ones_like(x[..., :1]) if size is None else size
    metric = F.normalize(metric, dim=-1)
    scores = metric[:, ::2] @ metric[:, 1::2].transpose(-1, -2)
    scores[:, 0] = -torch.inf  # the class token stays
    best, nearest = scores.max(-1)
    order = best.argsort(-1, descending=True)[..., None]
    gone, stay = order[:, :r], order[:, r:].sort(1).values
    into = nearest[..., None].gather(1, gone)

    def reduce(tokens: Tensor) -> Tensor:
        a, b = tokens[:, ::2], tokens[:, 1::2]
        width = tokens.shape[-1]
        kept = a.gather(1, stay.expand(-1, -1, width))
        moved = a.gather(1, gone.expand(-1, -1, width))
        b = b.scatter_reduce(1, into.expand(-1, -1, width), moved, reduce="sum")
        return torch.cat([kept, b], 1)

    total = reduce(size)
    return reduce(x * size) / total, total
