"""One small model of each of timm's families, as an encoder."""

import pytest
import timm
import torch

from lymphocytosis.encoders.encoder import Encoder
from lymphocytosis.errors import UserError

SMALL = {
    "beit": "beit_base_patch16_224", "byoanet": "halonet26t", "byobnet": "test_byobnet",
    "cait": "cait_xxs24_224", "coat": "coat_lite_tiny", "convit": "convit_tiny",
    "convmixer": "convmixer_768_32", "convnext": "test_convnext", "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240", "csatv2": "csatv2", "cspnet": "darknet17",
    "cspnext": "cspnext_tiny", "davit": "davit_tiny", "deepseek_vit": "deepseek_vit_412m",
    "deit": "deit_tiny_distilled_patch16_224", "densenet": "densenet121", "dla": "dla34",
    "dpn": "dpn68", "edgenext": "edgenext_small", "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0", "efficientnet": "test_efficientnet",
    "efficientvim": "efficientvim_m1", "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0", "eva": "eva02_tiny_patch14_224",
    "fasternet": "fasternet_t0", "fastvit": "fastvit_s12", "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xxtiny", "gemma4_vit": "gemma4_vit_167m", "ghostnet": "ghostnet_050",
    "hardcorenas": "hardcorenas_a", "hgnet": "hgnet_tiny", "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny", "hrnet": "hrnet_w18_small", "iformer": "iformer_t",
    "inception_next": "inception_next_atto", "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3", "inception_v4": "inception_v4", "lcnetv2": "lcnetv2_small",
    "levit": "levit_128s", "lowformer": "lowformer_b0", "mambaout": "test_mambaout",
    "maxxvit": "test_maxvit", "metaformer": "caformer_s18", "mlp_mixer": "mixer_s32_224",
    "mobilenetv3": "mobilenetv3_small_050", "mobilenetv5": "mobilenetv5_300m",
    "mobilevit": "mobilevit_xxs", "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_gap", "nasnet": "nasnetalarge", "nest": "nest_tiny",
    "nextvit": "nextvit_small", "nfnet": "test_nfnet", "pit": "pit_ti_224",
    "pnasnet": "pnasnet5large", "pvt_v2": "pvt_v2_b0", "qwen3_vit": "qwen3_vit_88m",
    "rdnet": "rdnet_tiny", "regnet": "regnetx_002", "repghost": "repghostnet_050",
    "repvit": "repvit_m1", "res2net": "res2net50d", "resnest": "resnest14d",
    "resnet": "test_resnet", "resnetv2": "resnetv2_18", "rexnet": "rexnet_100",
    "selecsls": "selecsls42", "senet": "legacy_seresnet18", "sequencer": "sequencer2d_s",
    "shvit": "shvit_s1", "sknet": "skresnet18", "starnet": "starnet_s050",
    "swiftformer": "swiftformer_xs", "swin_transformer": "swin_s3_tiny_224",
    "swin_transformer_v2": "swinv2_tiny_window8_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224", "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_patch16_224", "tresnet": "tresnet_m", "twins": "twins_svt_small", "vgg": "vgg11",
    "visformer": "visformer_tiny", "vision_transformer": "test_vit",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos": "test_vit_relpos", "vision_transformer_sam": "samvit_base_patch16",
    "vitamin": "vitamin_small_224", "volo": "volo_d1_224", "vovnet": "vovnet39a",
    "xception": "legacy_xception", "xception_aligned": "xception41", "xcit": "xcit_nano_12_p8_224",
}  # fmt: skip
REFUSED = {
    "crossvit": "several sets of features",
    "efficientvim": "several sets of features",
    "pit": "1 tokens",
}


class Seen(Encoder):
    """Keeps the shape of the one feature map that an encoder looks at while it is built."""

    def forward(self, images):
        features = super().forward(images)
        self.shape = features.shape
        return features


def test_all_families_are_here():
    assert set(SMALL) == {name for name in timm.list_modules() if timm.list_models(module=name)}


@pytest.mark.parametrize("family", SMALL)
def test_it_gives_a_feature_map_or_is_refused_by_name(family):
    name = SMALL[family]
    config = timm.get_pretrained_cfg(name)
    size = config.input_size[1]
    # Shapes only; but there torch takes an LSTM step by step.
    with torch.device("cpu" if family == "sequencer" else "meta"):
        if family in REFUSED:
            with pytest.raises(UserError, match=rf"encoder\.name '{name}'.*{REFUSED[family]}"):
                Encoder(name, size)
            return
        encoder = Seen(name, size)
    _, width, rows, columns = encoder.shape
    assert rows == columns
    # timm's own figures.
    assert width == encoder.dim == encoder.model.num_features
    if config.pool_size:
        assert rows == config.pool_size[0]
