"""Weights as other programs write them give the network that they are of, or one line."""

import re

import pytest
import timm
import torch
from PIL import Image
from torch.nn.functional import linear
from transformers import DeiTConfig, DeiTForImageClassificationWithTeacher

from experiment.command.errors import InputError
from imagenet import checkpoints, heads, hub, models, transform
from tests.imagenet_files import random_model

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def network_of(tmp_path, name, content, needs_head=False, **pixels):
    torch.save(content, tmp_path / "net.pth")
    return models.Network(name, name, tmp_path / "net.pth", needs_head=needs_head, **pixels)


def assert_same(model, original, images=IMAGES):
    with torch.inference_mode():
        features, logits = heads.features_and_logits(model, images)
        expected = original.forward_head(original.forward_features(images), pre_logits=True)
    assert torch.equal(features, expected)
    return logits


@pytest.mark.parametrize("wrap", [
    *((lambda state, key=key: {key: state, "epoch": 3}) for key in checkpoints.WRAPPERS),
    lambda state: {"my_weights": state, "optimizer": {"state": {}, "param_groups": []}},
    lambda state: {"checkpoint": {"model_state_dict": state}},
    lambda state: state | {"epoch": 3, "arch": "resnet"},
    lambda state: {"model": "resnet", "state_dict": state}])
def test_wrapped(tmp_path, wrap):
    original = random_model("test_resnet", 5)
    network = network_of(tmp_path, "test_resnet", wrap(original.state_dict()), needs_head=True)
    model, assumed = models.load(network)
    assert torch.equal(assert_same(model, original), original(IMAGES)) and not assumed


@pytest.mark.parametrize("prefix", ["model.", "net.", "backbone.", "encoder.", "0.", "module.",
                                    "module.model.backbone.", "model._orig_mod.", "_orig_mod."])
def test_prefixes(tmp_path, prefix):
    original = random_model("test_resnet", 5)
    state = {prefix + key: value for key, value in original.state_dict().items()}
    network = network_of(tmp_path, "test_resnet", {"state_dict": state}, needs_head=True)
    model, assumed = models.load(network)
    assert torch.equal(assert_same(model, original), original(IMAGES))
    assert torch.equal(models.read_head(network).weight, original.get_classifier().weight)
    after = re.sub(r"^(module\.|_orig_mod\.)", "", prefix)
    assert assumed == ((f"weights under {after!r}",) if after else ())


def test_a_body_with_a_head_of_its_own_is_a_body(tmp_path):
    """Features suffice for own data; what was left out is said."""
    original = random_model("test_resnet", 0)
    state = {f"backbone.{key}": value for key, value in original.state_dict().items()
             if not key.endswith("num_batches_tracked")}
    state |= {"classifier.weight": torch.ones(4, 256), "loss.weight": torch.ones(4)}
    network = network_of(tmp_path, "test_resnet", state)
    model, assumed = models.load(network)
    assert assert_same(model, original).shape == (2, 0)
    assert assumed == ("weights under 'backbone.'", "left out: classifier.weight, loss.weight")
    with pytest.raises(InputError, match="expected the linear layer fc.weight of a fine-tuned "
                                         "test_resnet, found none"):
        models.build(network_of(tmp_path, "test_resnet", state, needs_head=True))


def test_two_networks_in_one_file_are_not_guessed(tmp_path):
    state = random_model("test_resnet", 0).state_dict()
    both = {f"{name}.{key}": value for name in ("query", "key") for key, value in state.items()}
    with pytest.raises(InputError, match="this network under key. and under query.; expected one"):
        models.build(network_of(tmp_path, "test_resnet", both))


def test_a_deeper_network_of_the_same_kind_is_refused(tmp_path):
    """All of resnet18 is found in resnet34, by name and shape."""
    state = random_model("resnet34", 3).state_dict()
    with pytest.raises(InputError, match=r"net.pth: not weights of resnet18: \d+ entries differ, "
                                         r"the first layer1.2.conv1.weight \(expected none, got"):
        models.build(network_of(tmp_path, "resnet18", state))


def test_names_that_facebook_published(tmp_path):
    original = random_model("test_convnext", 5)
    state = {}
    for key, value in original.state_dict().items():
        for pattern, name in [
                (r"head\.norm", "norm"), (r"head\.fc", "head"),
                (r"^stem\.", "downsample_layers.0."),
                (r"stages\.(\d)\.downsample", r"downsample_layers.\1"),
                (r"blocks\.", ""), ("conv_dw", "dwconv"), (r"mlp\.fc", "pwconv")]:
            key = re.sub(pattern, name, key)
        state[key] = value
    network = network_of(tmp_path, "test_convnext", {"model": state}, needs_head=True)
    model, assumed = models.load(network)
    assert torch.equal(assert_same(model, original), original(IMAGES))
    assert assumed == ("names of layers converted by timm",)
    assert torch.equal(models.read_head(network).weight, original.get_classifier().weight)


@pytest.mark.parametrize("decoder", [False, True])
def test_mae_before_fine_tuning(tmp_path, monkeypatch, decoder):
    monkeypatch.setattr(models, "MAE", {"mae_base": "test_vit"})
    original = random_model("test_vit", 0)
    state = original.state_dict()
    if decoder:
        state = state | {"mask_token": torch.ones(1, 1, 64), "decoder_embed.weight": torch.ones(2)}
    torch.save({"model": state}, tmp_path / "mae.pth")
    network = models.find(tmp_path / "mae_base", 0, tmp_path / "mae.pth")
    with pytest.raises(InputError, match="not weights of test_vit: 2 entries differ, the first "
                                         "fc_norm.weight"):
        models.build(network)
    model, assumed = models.load(models.replace(network, needs_head=False))
    assert_same(model, original, torch.randn(2, 3, 160, 160))
    assert assumed[0] == "pre-trained, so the feature is the class token's"
    assert assumed[1:] == (("left out: decoder_embed, mask_token",) if decoder else ())


def test_another_size_of_images(tmp_path):
    original = timm.create_model("test_vit", num_classes=5, img_size=64).eval()
    state = original.state_dict()
    with pytest.raises(InputError, match="first pos_embed .*; if it was trained on images of 64 x "
                                         "64, give --image_size 64$"):
        models.build(network_of(tmp_path, "test_vit", state))
    network = network_of(tmp_path, "test_vit", state, image_size=64, mean=(0.1, 0.2, 0.3),
                         std=(0.5, 0.5, 1.0))
    model = models.build(network)
    assert torch.equal(assert_same(model, original), original(IMAGES))
    pixels = transform.transform_of(network, model)(Image.new("RGB", (99, 70), (255, 0, 51)))
    assert pixels.shape == (3, 64, 64)
    torch.testing.assert_close(pixels[:, 0, 0], torch.tensor([0.9 / 0.5, -0.2 / 0.5, -0.1]))
    assert transform.in_words(network, model) == \
        "images of 64 x 64, mean 0.1 0.2 0.3, std 0.5 0.5 1"


def test_a_size_that_the_network_refuses(tmp_path, monkeypatch):
    def create(name, img_size=None, **options):
        assert img_size is None, "must be divisible"
        return random_model(name, 5)
    network = network_of(tmp_path, "test_vit", random_model("test_vit", 5).state_dict(),
                         image_size=63)
    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(InputError, match=r"--image_size 63: test_vit takes no such images \(must"):
        models.build(network)


def test_convolutions_take_any_size(tmp_path):
    original = random_model("test_resnet", 5)
    network = network_of(tmp_path, "test_resnet", original.state_dict(), image_size=64)
    model = models.build(network)
    assert_same(model, original)
    assert transform.transform_of(network, model)(Image.new("RGB", (99, 70))).shape == (3, 64, 64)


def test_two_heads_are_one_on_both_features(tmp_path):
    """Distilled DeiT answers by the mean of two heads, each of which has a token of its own."""
    name = "deit_tiny_distilled_patch16_224"
    original = random_model(name, 5)
    network = network_of(tmp_path, name, {"model": original.state_dict()}, needs_head=True)
    model, images = models.build(network), torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        features, logits = heads.features_and_logits(model, images)
        assert torch.equal(logits, original(images))
    assert heads.widths(model) == (384, 5) and features.shape == (1, 384)
    for head in (heads.head_of(model), models.read_head(network)):
        torch.testing.assert_close(linear(features, *head), logits)


def test_two_heads_in_a_folder_of_transformers(tmp_path):
    config = DeiTConfig(image_size=32, patch_size=16, hidden_size=24, num_hidden_layers=1,
                        num_attention_heads=2, intermediate_size=32, num_labels=3)
    original = DeiTForImageClassificationWithTeacher(config).eval()
    original.save_pretrained(tmp_path / "deit")
    model = hub.load(tmp_path / "deit")
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        features, logits = heads.features_and_logits(model, images)
        torch.testing.assert_close(logits, original(images).logits)
    assert heads.widths(model) == (48, 3) and features.shape == (2, 48)
    torch.testing.assert_close(linear(features, *heads.head_of(model)), logits)
