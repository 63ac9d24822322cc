"""Which layers of a model compression and analysis act on."""

from __future__ import annotations

from torch import nn

Layer = nn.modules.conv._ConvNd | nn.Linear
LAYERS = (nn.modules.conv._ConvNd, nn.Linear)


def layers(model: nn.Module) -> dict[str, Layer]:
    """Return the convolutions and linear layers, by their name in ``model.named_modules()``."""
    return {name: m for name, m in model.named_modules() if isinstance(m, LAYERS)}


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights of these layers, by their name in ``model.named_parameters()``.

    A weight that two layers share is named once.
    """
    # A parametrized weight is computed anew on each access: no parameter, and so not named.
    owned = {id(module.weight) for module in layers(model).values()}
    return {name: p for name, p in model.named_parameters() if id(p) in owned}
