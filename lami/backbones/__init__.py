"""Networks that come from timm: trainable backbones, and the frozen VGG and ViT behind the losses and the selector."""

from lami.backbones.timm_models import create_backbone, create_pretrained
from lami.backbones.vgg import VGGFeatures
from lami.backbones.vit import ViTFeatures, ViTOutput

__all__ = ["VGGFeatures", "ViTFeatures", "ViTOutput", "create_backbone", "create_pretrained"]
