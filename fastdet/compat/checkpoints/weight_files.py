"""Where the weights lie that MMDetection's configs name as `torchvision://...`, `open-mmlab://...` and `mmcls://...`."""

_TORCHVISION = "https://download.pytorch.org/models/"
_OPEN_MMLAB = "https://download.openmmlab.com/pretrain/third_party/"

DETECTRON2_FOLDER = "https://dl.fbaipublicfiles.com/detectron2/"
"""Under it Detectron2's own names are paths."""

# Name -> file. The part after the last dash is the start of the file's SHA-256.
_TORCHVISION_FILES = {
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet101": "resnet101-63fe2227.pth",
    "resnet152": "resnet152-394f9c45.pth",
    "resnext50_32x4d": "resnext50_32x4d-7cdf4587.pth",
    "resnext101_32x8d": "resnext101_32x8d-8ba56ff5.pth",
    "wide_resnet50_2": "wide_resnet50_2-95faca4d.pth",
    "wide_resnet101_2": "wide_resnet101_2-32ee1156.pth",
    "resnet50.imagenet1k_v2": "resnet50-11ad3fa6.pth",
    "resnet101.imagenet1k_v2": "resnet101-cd907fc2.pth",
    "resnet152.imagenet1k_v2": "resnet152-f82ba261.pth",
}

_OPEN_MMLAB_FILES = {
    "vgg16_caffe": "vgg16_caffe-292e1171.pth",
    "detectron/resnet50_caffe": "resnet50_caffe-788b5fa3.pth",
    "detectron2/resnet50_caffe": "resnet50_msra-5891d200.pth",
    "detectron/resnet101_caffe": "resnet101_caffe-3ad79236.pth",
    "detectron2/resnet101_caffe": "resnet101_msra-6cc46731.pth",
    "detectron2/resnext101_32x8d": "resnext101_32x8d-1516f1aa.pth",
    "resnext50_32x4d": "resnext50-32x4d-0ab1a123.pth",
    "resnext101_32x4d": "resnext101_32x4d-a5af3160.pth",
    "resnext101_64x4d": "resnext101_64x4d-ee2c6f71.pth",
    "contrib/resnet50_gn": "resnet50_gn_thangvubk-ad1730dd.pth",
    "detectron/resnet50_gn": "resnet50_gn-9186a21c.pth",
    "detectron/resnet101_gn": "resnet101_gn-cac0ab98.pth",
    "jhu/resnet50_gn_ws": "resnet50_gn_ws-15beedd8.pth",
    "jhu/resnet101_gn_ws": "resnet101_gn_ws-3e3c308c.pth",
    "jhu/resnext50_32x4d_gn_ws": "resnext50_32x4d_gn_ws-0d87ac85.pth",
    "jhu/resnext101_32x4d_gn_ws": "resnext101_32x4d_gn_ws-34ac1a9e.pth",
    "jhu/resnext50_32x4d_gn": "resnext50_32x4d_gn-c7e8b754.pth",
    "jhu/resnext101_32x4d_gn": "resnext101_32x4d_gn-ac3bb84e.pth",
    "msra/hrnetv2_w18_small": "hrnetv2_w18_small-b5a04e21.pth",
    "msra/hrnetv2_w18": "hrnetv2_w18-00eb2006.pth",
    "msra/hrnetv2_w32": "hrnetv2_w32-dc9eeb4f.pth",
    "msra/hrnetv2_w40": "hrnetv2_w40-ed0b031c.pth",
    "msra/hrnetv2_w48": "hrnetv2_w48-d2186c55.pth",
    "res2net101_v1d_26w_4s": "res2net101_v1d_26w_4s_mmdetv2-f0a600f9.pth",
    "regnetx_400mf": "regnetx_400mf-a5b10d96.pth",
    "regnetx_800mf": "regnetx_800mf-1f4be4c7.pth",
    "regnetx_1.6gf": "regnetx_1.6gf-5791c176.pth",
    "regnetx_3.2gf": "regnetx_3.2gf-c2599b0f.pth",
    "regnetx_4.0gf": "regnetx_4.0gf-a88f671e.pth",
    "regnetx_6.4gf": "regnetx_6.4gf-006af45d.pth",
    "regnetx_8.0gf": "regnetx_8.0gf-3c68abe7.pth",
    "regnetx_12gf": "regnetx_12gf-4c2a3350.pth",
    "resnet18_v1c": "resnet18_v1c-b5776b93.pth",
    "resnet50_v1c": "resnet50_v1c-2cccc1ad.pth",
    "resnet101_v1c": "resnet101_v1c-e67eebb6.pth",
    "resnest50": "resnest50_d2-7497a55b.pth",
    "resnest101": "resnest101_d2-f3b931b2.pth",
    "resnest200": "resnest200_d2-ca88e41f.pth",
    "darknet53": "darknet53-a628ea1b.pth",
}

# Whole classifiers, by MMClassification's names.
_CLASSIFICATION = "https://download.openmmlab.com/mmclassification/v0/"
_CLASSIFICATION_FILES = {
    "resnet18": "resnet/resnet18_8xb32_in1k_20210831-fbbb1da6.pth",
    "resnet34": "resnet/resnet34_8xb32_in1k_20210831-f257d4e6.pth",
    "resnet50": "resnet/resnet50_8xb32_in1k_20210831-ea4938fc.pth",
    "resnet101": "resnet/resnet101_8xb32_in1k_20210831-539c63f8.pth",
    "resnet152": "resnet/resnet152_8xb32_in1k_20210901-4d7582fa.pth",
    "resnext50_32x4d": "resnext/resnext50_32x4d_b32x8_imagenet_20210429-56066e27.pth",
    "resnext101_32x4d": "resnext/resnext101_32x4d_b32x8_imagenet_20210506-e0fa3dd5.pth",
    "resnext101_32x8d": "resnext/resnext101_32x8d_b32x8_imagenet_20210506-23a247d5.pth",
    "resnext152_32x4d": "resnext/resnext152_32x4d_b32x8_imagenet_20210524-927787be.pth",
    "mobilenet_v2": "mobilenet_v2/mobilenet_v2_batch256_imagenet_20200708-3b2dc3af.pth",
    "mobilenet_v3_small": "mobilenet_v3/convert/mobilenet_v3_small-8427ecf0.pth",
    "mobilenet_v3_large": "mobilenet_v3/convert/mobilenet_v3_large-3ea3c186.pth",
    "swin_tiny": "swin-transformer/swin_tiny_224_b16x64_300e_imagenet_20210616_090925-66df6be6.pth",
    "swin_small": "swin-transformer/swin_small_224_b16x64_300e_imagenet_20210615_110219-7f9d988b.pth",
    "swin_base": "swin-transformer/convert/swin_base_patch4_window7_224_22kto1k-f967f799.pth",
    "swin_large": "swin-transformer/convert/swin_large_patch4_window7_224_22kto1k-5f0996db.pth",
    "vit_base_p16": "vit/finetune/vit-base-p16_in21k-pre-3rdparty_ft-64xb64_in1k-384_20210928-98e8652b.pth",
    "vit_base_p32": "vit/finetune/vit-base-p32_in21k-pre-3rdparty_ft-64xb64_in1k-384_20210928-9cea8599.pth",
    "vit_large_p16": "vit/finetune/vit-large-p16_in21k-pre-3rdparty_ft-64xb64_in1k-384_20210928-b20ba619.pth",
}

# Names of older releases for the same files.
_OPEN_MMLAB_ALIASES = {
    "resnet50_caffe": "detectron/resnet50_caffe",
    "resnet50_caffe_bgr": "detectron2/resnet50_caffe",
    "detectron2/resnet50_caffe_bgr": "detectron2/resnet50_caffe",
    "resnet101_caffe": "detectron/resnet101_caffe",
    "resnet101_caffe_bgr": "detectron2/resnet101_caffe",
    "detectron2/resnet101_caffe_bgr": "detectron2/resnet101_caffe",
}

URLS: dict[str, str] = {
    **{f"torchvision://{name}": _TORCHVISION + file for name, file in _TORCHVISION_FILES.items()},
    **{f"open-mmlab://{name}": _OPEN_MMLAB + file for name, file in _OPEN_MMLAB_FILES.items()},
    **{f"open-mmlab://{alias}": _OPEN_MMLAB + _OPEN_MMLAB_FILES[name] for alias, name in _OPEN_MMLAB_ALIASES.items()},
    **{f"mmcls://{name}": _CLASSIFICATION + file for name, file in _CLASSIFICATION_FILES.items()},
    "open-mmlab://mmdet/mobilenet_v2": "https://download.openmmlab.com/mmdetection/v2.0/third_party/"
    "mobilenet_v2_batch256_imagenet-ff34753d.pth",
}

# The same weights as torchvision published them before 0.9: a cached one serves as well.
OLDER_FILES: dict[str, str] = {
    "resnet18-f37072fd.pth": "resnet18-5c106cde.pth",
    "resnet34-b627a593.pth": "resnet34-333f7ec4.pth",
    "resnet50-0676ba61.pth": "resnet50-19c8e357.pth",
    "resnet101-63fe2227.pth": "resnet101-5d3b4d8f.pth",
    "resnet152-394f9c45.pth": "resnet152-b121ed2d.pth",
}
