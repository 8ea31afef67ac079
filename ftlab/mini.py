"""ftlab_mini: a ResNet-18 with 24 channels where the original has 64, for machines without a hub.

tools/pretrain_mini.py makes its weights from drawn fractals and textures, without any photograph.
"""

from __future__ import annotations

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet

default_cfgs = generate_default_cfgs(
    {
        "ftlab_mini.drawn": {
            "input_size": (3, 128, 128),
            "pool_size": (4, 4),
            "num_classes": 1000,
            "mean": (0.5, 0.5, 0.5),
            "std": (0.25, 0.25, 0.25),
            "first_conv": "conv1.0",
            "classifier": "fc",
        }
    }
)


# What timm's resnet18 must be told to become this network.
NARROW = {"channels": (24, 48, 96, 192), "stem_type": "deep", "stem_width": 12}


@register_model
def ftlab_mini(pretrained: bool = False, **kwargs) -> ResNet:
    """timm's ResNet at 3/8 of ResNet-18's width, under a stem of three 3x3 convolutions."""
    model_args = {"block": BasicBlock, "layers": (2, 2, 2, 2), **NARROW, **kwargs}
    return build_model_with_cfg(ResNet, "ftlab_mini", pretrained, **model_args)
