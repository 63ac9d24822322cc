"""MLP-Mixer (Tolstikhin et al. 2021) at the size that the paper gives in section 5.2.2.

base:         LN -> Linear -> GELU -> Linear
preact, snt:  LN -> act -> Linear -> act -> Linear   (act is GELU, or Eq. (1))

Eq. (1) has one triple for each channel. In `snt` those are the features that the next Linear
reads: tokens before token mixing. `snt-channels` takes the net's channels there as well; the
hidden units of an MLP are its channels in both.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from snt_core.methods.snt.transform import activation, is_preact

VARIANTS = ("base", "preact", "snt", "snt-channels")


def _mlp(width: int, hidden: int, variant: str, *, rows: int | None = None) -> nn.Sequential:
    """Return an MLP, `B rows width` to the same through `hidden`; with `rows`, those are channels.

    Channels are what Eq. (1) has its triples for, before the first linear layer.
    """
    channels, dim = (width, -1) if rows is None else (rows, 1)
    before = activation(variant, channels, dim=dim, plain=nn.GELU)
    return nn.Sequential(
        OrderedDict(
            before=before if is_preact(variant) else nn.Identity(),
            linear1=nn.Linear(width, hidden),
            between=activation(variant, hidden, dim=-1, plain=nn.GELU),
            linear2=nn.Linear(hidden, width),
        )
    )


class MixerLayer(nn.Module):
    """Token mixing and then channel mixing, each with a shortcut; `B N C` to `B N C`."""

    def __init__(self, tokens: int, width: int, mlp_dims: tuple[int, int], variant: str) -> None:
        super().__init__()
        rows = width if variant == "snt-channels" else None  # token mixing reads B C N
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.token_mixing = _mlp(tokens, mlp_dims[0], variant, rows=rows)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.channel_mixing = _mlp(width, mlp_dims[1], variant)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.token_mixing(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channel_mixing(self.norm2(x))


class Mixer(nn.Module):
    """An MLP-Mixer: patches, `depth` layers, mean over tokens, linear classifier.

    Args:
        mlp_dims: hidden widths of token and channel mixing (the paper's D_S and D_C).
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        width: int,
        depth: int,
        mlp_dims: tuple[int, int],
        variant: str,
        num_classes: int,
    ) -> None:
        super().__init__()
        tokens = (image_size // patch_size) ** 2
        self.patches = nn.Conv2d(3, width, patch_size, patch_size)
        self.layers = nn.Sequential(
            *(MixerLayer(tokens, width, mlp_dims, variant) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `B num_classes` of images `B 3 H W`."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)  # B N C
        return self.head(self.norm(self.layers(tokens)).mean(dim=1))


def mixer_s(variant: str, num_classes: int) -> Mixer:
    """Return the paper's Mixer: 0.7 M parameters, 32x32 images, 64 tokens, width 128, 8 layers."""
    return Mixer(
        image_size=32,
        patch_size=4,
        width=128,
        depth=8,
        mlp_dims=(64, 512),  # the paper's D_S and D_C
        variant=variant,
        num_classes=num_classes,
    )
