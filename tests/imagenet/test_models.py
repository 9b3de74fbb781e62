import hashlib
import math

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn.functional import conv2d, gelu, layer_norm, linear

from experiment.command.errors import InputError, Unavailable
from imagenet import heads, models, own
from imagenet.transform import transform_of
from tests.imagenet_files import random_model, write_checkpoint, write_image


def plain_transform(path):
    """Shorter side to 256 bicubic, centre crop 224, ImageNet mean and standard deviation."""
    image = Image.open(path).convert("RGB")
    width, height = image.size
    scale = 256 / min(width, height)
    image = image.resize((int(width * scale), int(height * scale)), Image.Resampling.BICUBIC)
    left, top = round((image.width - 224) / 2), round((image.height - 224) / 2)
    image = image.crop((left, top, left + 224, top + 224))
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    pixels = pixels.view(224, 224, 3).permute(2, 0, 1) / 255
    return (pixels - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) \
        / torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def plain_vit(w, x, heads):
    """ViT with 16 x 16 patches, mean over patch tokens, fc_norm, head: (n, D), (n, C)."""
    def norm(t, name):
        return layer_norm(t, t.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-6)

    def dense(t, name):
        return linear(t, w[f"{name}.weight"], w[f"{name}.bias"])

    patches = conv2d(x, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=16)
    tokens = patches.flatten(2).transpose(1, 2)
    n, _, dim = tokens.shape
    tokens = torch.cat([w["cls_token"].expand(n, -1, -1), tokens], 1) + w["pos_embed"]
    depth = 1 + max(int(key.split(".")[1]) for key in w if key.startswith("blocks."))
    for i in range(depth):
        qkv = dense(norm(tokens, f"blocks.{i}.norm1"), f"blocks.{i}.attn.qkv")
        q, k, v = (part.view(n, -1, heads, dim // heads).transpose(1, 2)
                   for part in qkv.chunk(3, 2))
        attention = (q @ k.transpose(2, 3) / math.sqrt(dim // heads)).softmax(-1)
        mixed = (attention @ v).transpose(1, 2).reshape(n, -1, dim)
        tokens = tokens + dense(mixed, f"blocks.{i}.attn.proj")
        hidden = gelu(dense(norm(tokens, f"blocks.{i}.norm2"), f"blocks.{i}.mlp.fc1"))
        tokens = tokens + dense(hidden, f"blocks.{i}.mlp.fc2")
    features = norm(tokens[:, 1:].mean(1), "fc_norm")
    return features, dense(features, "head")


def assert_is_plain_mae(tmp_path, kind, architecture, n_heads):
    weights = random_model(architecture, classes=11, global_pool="avg").state_dict()
    write_checkpoint(tmp_path / kind / "checkpoint-0.pth", weights)
    network = models.find(tmp_path / kind, 0, None)
    model = models.build(network)
    transform = transform_of(network, model)
    files = [tmp_path / "wide.jpg", tmp_path / "tall.jpg"]
    for seed, (file, size) in enumerate(zip(files, [(400, 301), (260, 333)])):
        write_image(file, seed, size)
    images = torch.stack([transform(Image.open(file)) for file in files])
    plain_images = torch.stack([plain_transform(file) for file in files])
    torch.testing.assert_close(images, plain_images, atol=1e-5, rtol=0)
    with torch.inference_mode():
        features, logits = heads.features_and_logits(model, images)
        plain_features, plain_logits = plain_vit(weights, plain_images, n_heads)
    assert features.shape == (2, n_heads * 64) and features.std() > 0.5 and logits.std() > 0.1
    torch.testing.assert_close(features, plain_features, atol=1e-5, rtol=0)
    torch.testing.assert_close(logits, plain_logits, atol=1e-5, rtol=0)
    head = models.read_head(network)
    assert torch.equal(linear(features, *head), logits)


def test_mae_base_is_the_published_architecture(tmp_path):
    assert_is_plain_mae(tmp_path, "mae_base", "vit_base_patch16_224", n_heads=12)


@pytest.mark.slow  # 1.2 GB of weights
def test_mae_large_is_the_published_architecture(tmp_path):
    assert_is_plain_mae(tmp_path, "mae_large_noise0.08", "vit_large_patch16_224", n_heads=16)


def test_head_is_read_without_building_the_model(tmp_path, monkeypatch):
    weight, bias = torch.randn(7, 1024), torch.randn(7)
    write_checkpoint(tmp_path / "mae_large/checkpoint-49.pth",
                     {"head.weight": weight.half(), "head.bias": bias.half()})
    monkeypatch.setattr(timm, "create_model", None)
    head = models.read_head(models.find(tmp_path / "mae_large", 49, None))
    assert torch.equal(head.weight, weight.half().float())
    assert torch.equal(head.bias, bias.half().float())


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit", "test_efficientnet",
                                  "test_byobnet"])
@pytest.mark.parametrize("file", ["plain.pth", "wrapped.pth", "weights.safetensors"])
def test_timm_names_with_local_weights(tmp_path, name, file):
    original = random_model(name, classes=6, seed=3)
    state = {f"module.{key}": value for key, value in original.state_dict().items()}
    if file == "plain.pth":
        torch.save(original.state_dict(), tmp_path / file)
    elif file == "wrapped.pth":
        torch.save({"state_dict": state, "model_ema": None}, tmp_path / file)
    else:
        save_file(original.state_dict(), tmp_path / file)
    network = models.find(tmp_path / name, None, tmp_path / file)
    model = models.build(network)
    images = torch.randn(2, 3, 64, 64) if name != "test_vit" else torch.randn(2, 3, 160, 160)
    with torch.inference_mode():
        features, logits = heads.features_and_logits(model, images)
        assert torch.equal(logits, original(images))
    head = models.read_head(network)
    assert torch.equal(linear(features, *head), logits)
    assert transform_of(network, model)(Image.new("RGB", (300, 200))).shape[0] == 3


def test_timms_own_weights(tmp_path, monkeypatch):
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model",
                        lambda name, pretrained: create(name, num_classes=9))
    network = models.find(tmp_path / "test_resnet", None, None)
    assert network.source == "timm's test_resnet"
    assert len(models.read_head(network).weight) == 9


def test_weights_that_cannot_be_downloaded(tmp_path, monkeypatch):
    def offline(name, pretrained):
        raise OSError("no connection\nsecond line")
    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(Unavailable, match=r"resnet50: timm's weights could not be downloaded \(no "
                                         r"connection\); .* --checkpoint FILE$"):
        models.read_head(models.find(tmp_path / "resnet50", None, None))
    with pytest.raises(Unavailable, match="or as -n a folder that timm or transformers saved$"):
        models.load(own.find("resnet50", None))


@pytest.mark.parametrize("name, message", [
    ("mae_small", r"--name mae_small: expected mae_base\* or mae_large\*"),
    ("sst2", "--name sst2: .*; sst2 is run by python language/detect.py -t sst2$"),
    ("mnli", "mnli is run by python language/detect.py -t mnli$"),
    ("esc50", "esc50 is run by python speech/detect.py$"),
    ("resnet_50", r"--name resnet_50: not an experiment, .*did you mean resnet50"),
    ("mae_large", r"checkpoint-49.pth: no such file; .*--checkpoint FILE"),
])
def test_unknown_names(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        models.find(tmp_path / name, 49, None)


def test_fingerprint_is_of_the_file_or_of_timms_name(tmp_path):
    file = tmp_path / "weights.pth"
    file.write_bytes(b"one")
    network = models.find(tmp_path / "resnet18", None, file)
    assert models.fingerprint(network) == hashlib.sha256(b"one").hexdigest()
    file.write_bytes(b"another")
    assert models.fingerprint(network) == hashlib.sha256(b"another").hexdigest()
    own = models.find(tmp_path / "resnet18", None, None)
    assert models.fingerprint(own) == f"timm/resnet18.{timm.get_pretrained_cfg('resnet18').tag}"


def test_timm_model_without_weights(tmp_path):
    name = next(name for name in timm.list_models()
                if not timm.get_pretrained_cfg(name).has_weights)
    with pytest.raises(InputError, match="timm has no weights for it"):
        models.read_head(models.find(tmp_path / name, None, None))


@pytest.mark.parametrize("content, message", [
    ({"head.weight": torch.ones(5, 192)},  # as wide as it should be, but alone
     r"not weights of vit_base_patch16_224: \d+ entries differ, the first cls_token "
     r"\(expected \(1, 1, 768\), got none\)"),
    ({"blocks.0.norm1.weight": torch.ones(768)}, "not weights of vit_base_patch16_224"),
    ([1, 2], "expected a dict of weights"),
    ({"epoch": 3}, "expected a dict of weights"),
])
def test_checkpoints_of_something_else(tmp_path, content, message):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(InputError, match=message):
        models.build(models.find(tmp_path / "mae_base", 0, tmp_path / "other.pth"))


def test_resnet_checkpoint_under_a_mae_name(tmp_path):
    torch.save(random_model("test_resnet", 5).state_dict(), tmp_path / "resnet.pth")
    network = models.find(tmp_path / "mae_base", 0, tmp_path / "resnet.pth")
    with pytest.raises(InputError, match="resnet.pth: not weights of vit_base_patch16_224: "):
        models.build(network)
    with pytest.raises(InputError, match="resnet.pth: not weights of vit_base_patch16_224: "):
        models.read_head(network)


@pytest.mark.parametrize("shape, found", [
    ((5, 64, 1, 1), r"shape \(5, 64, 1, 1\)"), (None, "none")])
def test_weights_without_a_linear_head(tmp_path, shape, found):
    state = random_model("test_vit", 0).state_dict()
    torch.save(state if shape is None else state | {"head.weight": torch.ones(shape)},
               tmp_path / "vit.pth")
    network = models.find(tmp_path / "test_vit", None, tmp_path / "vit.pth")
    for use in (models.build, models.read_head):
        with pytest.raises(InputError, match=f"vit.pth: expected the linear layer head.weight of a "
                                             f"fine-tuned test_vit, found {found}"):
            use(network)


def test_models_without_a_linear_layer(tmp_path):
    model = random_model("levit_128s", 5)
    torch.save(model.state_dict(), tmp_path / "levit.pth")
    network = models.find(tmp_path / "levit_128s", None, tmp_path / "levit.pth")
    with pytest.raises(InputError, match="expected a model with a linear final layer"):
        models.build(network)


def test_broken_safetensors(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"not a tensor file")
    with pytest.raises(InputError, match="x.safetensors: not a readable .safetensors file"):
        models.read_head(models.find(tmp_path / "test_resnet", None, tmp_path / "x.safetensors"))
