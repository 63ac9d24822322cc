"""Vision transformers (Dosovitskiy et al. 2021) through timm, and its public checkpoints.

The paper measures transformers as they are (section 2.2): there is no transformed variant.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten
from types import ModuleType

from torch import Tensor, nn

from snt_core.common.errors import UserError
from snt_core.common.vision import torchvision

VARIANTS = ("base",)
VIT_B16 = "vit_base_patch16_224"


def vit_tiny(variant: str, num_classes: int) -> nn.Module:
    """Return a ViT of 5.4 M parameters for 32x32 images: 64 tokens and a class token, depth 12."""
    net = _timm().models.VisionTransformer(
        img_size=32,
        patch_size=4,
        embed_dim=192,
        depth=12,
        num_heads=3,
        num_classes=num_classes,
    )
    for block in net.blocks:
        # At 65 tokens the gradient of torch's fused attention is slower on a CPU than that of plain
        # products.
        block.attn.fused_attn = False
    return net


def vit_b16(variant: str, num_classes: int) -> nn.Module:
    """Return ViT-B/16 for 224x224 images, 86.6 M parameters with 1000 classes; random weights."""
    return _timm().create_model(VIT_B16, num_classes=num_classes)


def load_checkpoint(
    name_or_path: str | Path, *, revision: str | None = None, num_classes: int = 1000
) -> nn.Module:
    """Return a trained net from safetensors, in eval mode; pickles are never opened.

    Args:
        name_or_path: a `.safetensors` file, or the name of a checkpoint that timm knows, such as
            `vit_base_patch16_224.augreg2_in21k_ft_in1k` or `vit_base_patch16_224.sam_in1k`, which
            comes from the Hugging Face hub or its cache. A file is a ViT-B/16, or the timm
            architecture that the key `architecture` of its metadata names.
        revision: commit of the checkpoint on the hub; a name needs one, a file has none.
        num_classes: of the checkpoint's classifier.

    Returns:
        timm's net; its `pretrained_cfg` says how images are normalised (`mean`, `std`).

    Raises:
        UserError: no such file or name, no network, or weights of another net.
    """
    timm = _timm()
    if str(name_or_path).endswith(".safetensors"):
        architecture, weights = _read(Path(name_or_path))
        if not timm.is_model(architecture):
            raise UserError(f"{name_or_path} is a '{architecture}', which timm does not know")
    else:
        architecture = str(name_or_path)
        weights = _fetch(architecture, revision)
    model = timm.create_model(architecture, num_classes=num_classes)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        # torch's first line says only that the state dict does not fit
        odd = shorten(str(error).partition("\n")[2], 160, placeholder=" ...")
        raise UserError(
            f"{name_or_path} is no {architecture} with {num_classes} classes: {odd}"
        ) from error
    return model.eval()


def _read(path: Path) -> tuple[str, dict[str, Tensor]]:
    """Return the architecture and the weights of a local file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            architecture = (file.metadata() or {}).get("architecture", VIT_B16)
            return architecture, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is not a readable safetensors file ({error})") from error


def _fetch(name: str, revision: str | None) -> dict[str, Tensor]:
    """Return the weights of one of timm's checkpoints from the hub."""
    timm = _timm()
    if not timm.is_model_pretrained(name):
        raise UserError(f"'{name}' is neither a .safetensors file nor a checkpoint that timm knows")
    home = timm.get_pretrained_cfg(name).hf_hub_id
    if revision is None:
        raise UserError(f"give a revision of '{name}', a commit of huggingface.co/{home}")
    try:
        return timm.models.load_state_dict_from_hf(f"{home}@{revision}", "model.safetensors")
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"cannot fetch {home} ({reason}); give the path of its model.safetensors, "
            f"downloaded from huggingface.co/{home}/tree/{revision}"
        ) from error


def _timm() -> ModuleType:
    torchvision()  # timm imports it
    import timm

    return timm
