import pytest
import torch
from torch.nn.functional import conv2d, gelu, layer_norm, linear
from transformers import ASTForAudioClassification, BertConfig

from experiment.command.errors import InputError
from speech import features, models


def published_architecture(state, inputs):
    """The AST of a DataParallel state dict, written out: feature and logits of (N, T, B)."""
    def of(name):
        return state[f"module.{name}"]

    def norm(x, name, eps):
        return layer_norm(x, x.shape[-1:], of(f"{name}.weight"), of(f"{name}.bias"), eps)

    def dense(x, name):
        return linear(x, of(f"{name}.weight"), of(f"{name}.bias"))

    image = inputs[:, None].transpose(2, 3)  # (N, 1, bins, frames)
    x = conv2d(image, of("v.patch_embed.proj.weight"), of("v.patch_embed.proj.bias"), stride=10)
    x = x.flatten(2).transpose(1, 2)  # (N, patches, D), time running fastest
    n, _, width = x.shape
    tokens = [of(name).expand(n, 1, width) for name in ("v.cls_token", "v.dist_token")]
    x = torch.cat([*tokens, x], 1) + of("v.pos_embed")
    heads, block = width // 64, 0
    while f"module.v.blocks.{block}.norm1.weight" in state:
        at = f"v.blocks.{block}"
        qkv = dense(norm(x, f"{at}.norm1", 1e-6), f"{at}.attn.qkv")
        q, k, v = qkv.reshape(n, -1, 3, heads, 64).permute(2, 0, 3, 1, 4)  # (N, heads, tokens, 64)
        attended = (q @ k.transpose(2, 3) / 8).softmax(-1) @ v
        x = x + dense(attended.transpose(1, 2).reshape(x.shape), f"{at}.attn.proj")
        x = x + dense(gelu(dense(norm(x, f"{at}.norm2", 1e-6), f"{at}.mlp.fc1")), f"{at}.mlp.fc2")
        block += 1
    x = norm(x, "v.norm", 1e-6)
    feature = norm((x[:, 0] + x[:, 1]) / 2, "mlp_head.0", 1e-5)
    return feature, dense(feature, "mlp_head.1")


def random_state(*, width, depth, time_patches, classes):
    """A checkpoint in the published format, every tensor random."""
    sizes = {"v.cls_token": (1, 1, width), "v.dist_token": (1, 1, width),
             "v.pos_embed": (1, 2 + 12 * time_patches, width),
             "v.patch_embed.proj.weight": (width, 1, 16, 16), "v.patch_embed.proj.bias": (width,)}
    linears = {"v.head": (1000, width), "v.head_dist": (1000, width),
               "mlp_head.1": (classes, width)}
    norms = ["v.norm", "mlp_head.0"]
    for block in range(depth):
        at = f"v.blocks.{block}"
        norms += [f"{at}.norm1", f"{at}.norm2"]
        linears |= {f"{at}.attn.qkv": (3 * width, width), f"{at}.attn.proj": (width, width),
                    f"{at}.mlp.fc1": (4 * width, width), f"{at}.mlp.fc2": (width, 4 * width)}
    for name, (rows, columns) in linears.items():
        sizes |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    for name in norms:
        sizes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    torch.manual_seed(0)
    state = {f"module.{name}": 0.05 * torch.randn(size) for name, size in sizes.items()}
    for name in norms:
        state[f"module.{name}.weight"] += 1
    return state


SMALL = dict(width=128, depth=2, time_patches=4, classes=5)


def check_against_the_published_architecture(tmp_path, sizes, frames):
    state = random_state(**sizes)
    torch.save(state, tmp_path / "audio_model_epoch25.pth")
    network = models.load_published(tmp_path / "audio_model_epoch25.pth")
    assert network.front_end.max_length == frames
    inputs = torch.randn(2, frames, 128)
    found = features.extract(network, [inputs], device="cpu")
    with torch.inference_mode():
        feature, logits = published_architecture(state, inputs)
    assert feature.std() > 0.1 and logits.std() > 0.01
    torch.testing.assert_close(found["feat"], feature, atol=1e-4, rtol=0)
    torch.testing.assert_close(found["logit"], logits, atol=1e-4, rtol=0)
    return state, network


def test_published_checkpoint(tmp_path):
    state, network = check_against_the_published_architecture(tmp_path, SMALL, frames=52)
    written = models.to_published(network.model)
    assert {name: tensor.shape for name, tensor in written.items()} == \
        {name: tensor.shape for name, tensor in state.items()}
    for name, tensor in written.items():
        unused = name.startswith("module.v.head")
        assert torch.equal(tensor, torch.zeros_like(tensor) if unused else state[name]), name


@pytest.mark.slow  # 86 M parameters: ten seconds and 2 GB
def test_published_checkpoint_of_full_size(tmp_path):
    sizes = dict(width=768, depth=12, time_patches=50, classes=50)
    _, network = check_against_the_published_architecture(tmp_path, sizes, frames=512)
    assert sum(tensor.numel() for tensor in network.model.parameters()) == 85_757_234


def test_a_plain_state_dict_without_unused_heads_loads_too():
    state = {name.removeprefix("module."): tensor for name, tensor in random_state(**SMALL).items()
             if "v.head" not in name}
    assert models.from_published(state, "file").model.config.num_labels == 5


@pytest.mark.parametrize("change, line", [
    (lambda state: state.pop("module.v.norm.bias"),
     "lacks v.norm.bias (1 such tensors)"),
    (lambda state: state.update({"module.v.rel_pos": torch.ones(2)}),
     "has an unknown v.rel_pos (1 such tensors)"),
    (lambda state: state.update({"module.v.blocks.1.norm1.weight": torch.ones(3)}),
     "size mismatch for audio_spectrogram_transformer.layers.1.layernorm_before.weight"),
    (lambda state: state.update({"module.v.pos_embed": torch.ones(1, 7, 128)}),
     "a number of patches that 12 divides, got 128 and 5"),
    (lambda state: state.clear(), "lacks mlp_head.0.bias"),
])
def test_other_checkpoints_are_refused(change, line):
    state = random_state(**SMALL)
    change(state)
    with pytest.raises(InputError) as refusal:
        models.from_published(state, "file")
    assert str(refusal.value).startswith("file: ") and line in str(refusal.value)


def test_a_file_of_something_else_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "a.pth")
    with pytest.raises(InputError, match="expected a state dict, got list"):
        models.load_published(tmp_path / "a.pth")


def test_folder_of_an_ast(ast_folder):
    network = models.load_folder(ast_folder)
    inputs = torch.randn(2, 32, 128)
    feature, logits = network(inputs)
    theirs = ASTForAudioClassification.from_pretrained(ast_folder)
    torch.testing.assert_close(logits, theirs(inputs).logits, atol=1e-6, rtol=0)
    pooled = theirs.audio_spectrogram_transformer(inputs).pooler_output
    torch.testing.assert_close(feature, theirs.classifier.layernorm(pooled), atol=1e-6, rtol=0)
    assert network.front_end.mean == models.MEAN


def broken_weights(folder):
    (folder / "model.safetensors").write_bytes(b"nothing")


def other_architecture(folder):
    BertConfig().save_pretrained(folder)


def other_length(folder):
    text = (folder / "preprocessor_config.json").read_text()
    (folder / "preprocessor_config.json").write_text(text.replace("32", "1024"))


@pytest.mark.parametrize("change, line", [
    (lambda folder: (folder / "config.json").unlink(), "no config.json; expected the folder of an"),
    (lambda folder: (folder / "model.safetensors").unlink(), "cannot be loaded as an AST ("),
    (lambda folder: (folder / "preprocessor_config.json").unlink(), "no preprocessor_config.json"),
    (broken_weights, "cannot be loaded as an AST ("),
    (other_architecture, "expected an AST, got bert"),
    (other_length, "the model takes (32, 128) frames and bins, its feature extractor gives (1024"),
])
def test_other_folders_are_refused(ast_folder, change, line):
    change(ast_folder)
    with pytest.raises(InputError) as refusal:
        models.load_folder(ast_folder)
    assert str(refusal.value).startswith(f"{ast_folder}: {line}")
    assert "\n" not in str(refusal.value)


def test_weights_that_lack_a_tensor_are_refused(ast_folder):
    model = ASTForAudioClassification.from_pretrained(ast_folder)
    state = model.state_dict()
    state.pop("audio_spectrogram_transformer.layernorm.weight")
    model.save_pretrained(ast_folder, state_dict=state)
    with pytest.raises(InputError, match="the weights lack audio_spectrogram_transformer.layern"):
        models.load_folder(ast_folder)


def test_fine_tuning_starts_from_the_middle_of_longer_inputs(tmp_path):
    longer = models.new(classes=7, frames=1024, width=64, depth=1)
    longer.model.save_pretrained(tmp_path)
    network = models.pretrained(tmp_path, classes=3)
    assert network.front_end.max_length == 512 and network.model.config.num_labels == 3
    assert network.model.config.layer_norm_eps == 1e-6
    assert network.model.classifier.layernorm.eps == 1e-5
    theirs, ours = (net.model.audio_spectrogram_transformer.embeddings.position_embeddings[0]
                    for net in (longer, network))
    grid = theirs[2:].reshape(12, 101, 64)[:, 25:75]  # 50 of 101 places in time
    assert torch.equal(ours, torch.cat([theirs[:2], grid.reshape(600, 64)]))
    assert torch.equal(network.model.audio_spectrogram_transformer.layernorm.weight,
                       longer.model.audio_spectrogram_transformer.layernorm.weight)


def test_an_ast_that_the_published_format_cannot_hold_is_refused(tmp_path, network):
    network.model.config.num_attention_heads = 2
    network.model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="expected {'num_attention_heads': 1} to write it"):
        models.pretrained(tmp_path, classes=3)
