"""Files of DINOv2's form, such as DinoBloom's, against DINOv2's own arithmetic."""

import pytest
import timm
import torch
from timm.layers import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch.nn import functional as F

from lymphocytosis.encoders.pooled import build_pooled_encoder
from lymphocytosis.encoders.weights import _in_timms_form, fit, initial_state
from lymphocytosis.parameters import EncoderParameters

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
# As published: width, blocks, width of the MLP, whether it is gated.
PUBLISHED = {
    "vit_small_patch14_dinov2": (384, 12, 1536, False),
    "vit_base_patch14_dinov2": (768, 12, 3072, False),
    "vit_large_patch14_dinov2": (1024, 24, 4096, False),
    "vit_giant_patch14_dinov2": (1536, 40, 4096, True),
}


def published(width, blocks, hidden, gated, side=16, draw=torch.randn):
    """A backbone by the names of facebookresearch/dinov2, without block chunks."""
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, side**2 + 1, width),
        "mask_token": (1, width),
        "patch_embed.proj.weight": (width, 3, 14, 14),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for i in range(blocks):
        of_block = {
            "attn.qkv.weight": (3 * width, width),
            "attn.qkv.bias": (3 * width,),
            "attn.proj.weight": (width, width),
            "attn.proj.bias": (width,),
        }
        for name in ("norm1", "norm2"):
            of_block |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
        for name in ("ls1", "ls2"):
            of_block[f"{name}.gamma"] = (width,)
        first, second, rows = ("w12", "w3", 2 * hidden) if gated else ("fc1", "fc2", hidden)
        of_block |= {
            f"mlp.{first}.weight": (rows, width),
            f"mlp.{first}.bias": (rows,),
            f"mlp.{second}.weight": (width, hidden),
            f"mlp.{second}.bias": (width,),
        }
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in of_block.items()}
    return {name: 0.2 * draw(shape) for name, shape in shapes.items()}


def as_file(backbone):
    """The form of DinoBloom's files."""
    heads = {"dino_head.mlp.0.weight": torch.ones(2, 2), "ibot_head.mlp.0.bias": torch.ones(2)}
    return {"teacher": {f"backbone.{k}": v for k, v in backbone.items()} | heads}


def dinov2(state, images, blocks, heads, gated):
    """DINOv2's forward: normalised tokens (B, 1 + n, width), the class token first."""

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x, name):
        return F.layer_norm(
            x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6
        )

    patches = F.conv2d(
        images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=14
    )
    x = patches.flatten(2).transpose(1, 2)
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], dim=1) + state["pos_embed"]
    for i in range(blocks):
        b = f"blocks.{i}"
        q, k, v = (
            part.unflatten(2, (heads, -1)).transpose(1, 2)
            for part in linear(norm(x, f"{b}.norm1"), f"{b}.attn.qkv").chunk(3, dim=2)
        )
        weights = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(dim=3)
        attended = linear((weights @ v).transpose(1, 2).flatten(2), f"{b}.attn.proj")
        x = x + state[f"{b}.ls1.gamma"] * attended
        y = norm(x, f"{b}.norm2")
        if gated:
            first, second = linear(y, f"{b}.mlp.w12").chunk(2, dim=2)
            y = linear(F.silu(first) * second, f"{b}.mlp.w3")
        else:
            y = linear(F.gelu(linear(y, f"{b}.mlp.fc1")), f"{b}.mlp.fc2")
        x = x + state[f"{b}.ls2.gamma"] * y
    return norm(x, "norm")


@pytest.mark.parametrize("gated", [False, True])
def test_the_arithmetic_is_dinov2s(tmp_path, gated):
    torch.manual_seed(0)
    options = {"mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU} if gated else {}
    model = VisionTransformer(
        img_size=28, patch_size=14, embed_dim=24, depth=2, num_heads=3, init_values=1e-5,
        mlp_ratio=4, num_classes=0, global_pool="", **options,
    ).eval()  # fmt: skip
    # Two halves of a gated MLP's width.
    backbone = published(24, 2, 48 if gated else 96, gated, side=2)
    model.load_state_dict(fit(as_file(backbone), model, tmp_path))
    images = torch.randn(2, 3, 28, 28)
    expected = dinov2(backbone, images, 2, 3, gated)
    with torch.inference_mode():
        torch.testing.assert_close(model.forward_features(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_names_and_shapes_fit(name):
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0, img_size=224)
        given = published(*PUBLISHED[name])
    state = _in_timms_form(given, model)
    assert {k: v.shape for k, v in state.items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(1)
    return published(*PUBLISHED["vit_small_patch14_dinov2"])


@pytest.fixture(scope="module")
def file(backbone, tmp_path_factory):
    path = tmp_path_factory.mktemp("dinobloom") / "DinoBloom-S.pth"
    torch.save(as_file(backbone), path)
    return path


def parameters(file, pool=("mean",)):
    return EncoderParameters(
        name="vit_small_patch14_dinov2", weights=str(file), small_dim=8, pool=pool, layers=(1,),
        zooms=(1.0,),
    )  # fmt: skip


def test_a_file_embeds_as_dinov2_does(backbone, file):
    """Class token and mean patch of pictures normalised as ImageNet's, from the file on."""
    pooled = build_pooled_encoder(parameters(file, pool=("token", "mean")), 224, seed=0).eval()
    images = torch.rand(1, 3, 224, 224)
    mean, std = (torch.tensor(values)[:, None, None] for values in IMAGENET)
    tokens = dinov2(backbone, (images - mean) / std, 12, 6, gated=False)
    expected = torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1)
    with torch.inference_mode():
        large, _ = pooled.embed(images)
    assert (large - expected).abs().max() < 1e-3 * expected.abs().max()


def test_positions_are_fitted_to_the_size_of_the_pictures(backbone, file):
    model = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=112)
    state = initial_state(parameters(file), model, 112)
    positions = state["pos_embed"]
    assert positions.shape == (1, 8 * 8 + 1, 384)
    assert torch.equal(positions[:, 0], backbone["pos_embed"][:, 0])
    # A smaller grid of the same plane: means of the plane's parts hardly change.
    grids = (backbone["pos_embed"], positions)
    old, new = (g[:, 1:].unflatten(1, (round((g.shape[1] - 1) ** 0.5), -1)) for g in grids)
    torch.testing.assert_close(new.mean(dim=(1, 2)), old.mean(dim=(1, 2)), rtol=0, atol=0.02)
