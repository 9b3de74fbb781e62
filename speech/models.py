"""The Audio Spectrogram Transformer (Gong et al. 2021): published checkpoints and Hugging Face's.

The network is transformers' own. A published checkpoint is the state dict of a DataParallel model:
timm's distilled DeiT as `module.v.*`, a LayerNorm and a Linear as `module.mlp_head.{0,1}.*`;
`_layout` maps its tensors to those of transformers. N clips, D width, C classes.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, AutoConfig
from transformers.utils import logging

from experiment.command.errors import InputError, Unavailable
from experiment.files import reading
from experiment.inputs.own_data import class_names_of

RATE = 16_000  # Hz
FRAMES = 512  # of 10 ms: the published input length
BINS = 128
MEAN, STD = -6.6268077, 5.358466  # of ESC-50's filter banks, as published
PATCH, STRIDE = 16, 10
FREQUENCY_PATCHES = (BINS - PATCH) // STRIDE + 1  # 12
HEAD_WIDTH = 64  # of every DeiT; a state dict does not tell its number of heads
BLOCK_EPS, HEAD_EPS = 1e-6, 1e-5  # as trained; transformers' default 1e-12 changes features by 3e-4
UNUSED = ("v.head", "v.head_dist")  # DeiT's own heads of 1000 classes: in the file, never called
ENCODER = "audio_spectrogram_transformer"


@dataclass(frozen=True)
class Network:
    """A classifier and its front end, which turns a waveform into (frames, bins)."""

    model: ASTForAudioClassification
    front_end: ASTFeatureExtractor

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, D), the input of the last linear layer, and logits (N, C)."""
        pooled = self.model.get_submodule(ENCODER)(inputs).pooler_output
        feature = self.model.classifier.layernorm(pooled)
        return feature, self.model.classifier.dense(feature)


def new(*, classes: int, frames: int = FRAMES, width: int = 768, depth: int = 12) -> Network:
    """A network with random weights, of the published kind and by default of its size.

    Weights have a deviation of 1 / sqrt(inputs): with transformers' 0.02, meant for wide networks,
    a narrow one hardly learns. Positions have 0.02 instead of 0, as in DeiT.
    """
    network = _network(_config(classes, _time_patches(frames), width, depth, 4 * width))
    for module in network.model.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            torch.nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    positions = network.model.get_submodule(ENCODER).embeddings.position_embeddings
    torch.nn.init.normal_(positions, std=0.02)
    return network


def load_published(path: Path) -> Network:
    """The network in a published checkpoint, or in one written by `to_published`."""
    state = reading.load(path)
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise InputError(f"{path}: expected a state dict, got {type(state).__name__}")
    return from_published(state, str(path))


def from_published(state: Mapping[str, Tensor], source: str) -> Network:
    """The network of a DataParallel state dict; sizes are read off its tensors.

    Raises InputError, with `source`, for tensors that are missing, unknown or of another shape.
    """
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()
             if not name.removeprefix("module.").startswith(UNUSED)}
    depth = len({name.split(".")[2] for name in state if name.startswith("v.blocks.")})
    layout = dict(_layout(depth))
    for problem, names in (("lacks", layout.keys() - state.keys()),
                           ("has an unknown", state.keys() - layout.keys())):
        if names:
            raise InputError(f"{source}: not a checkpoint of this architecture: {problem} "
                             f"{min(names)} ({len(names)} such tensors)")
    width = state["v.pos_embed"].shape[-1]
    patches = state["v.pos_embed"].shape[1] - 2
    if width % HEAD_WIDTH or patches % FREQUENCY_PATCHES:
        raise InputError(f"{source}: expected a width that {HEAD_WIDTH} divides and a number of "
                         f"patches that {FREQUENCY_PATCHES} divides, got {width} and {patches}")
    config = _config(len(state["mlp_head.1.weight"]), patches // FREQUENCY_PATCHES, width, depth,
                     len(state["v.blocks.0.mlp.fc1.weight"]))
    network = _network(config)
    try:
        network.model.load_state_dict({
            name: part for published, names in layout.items()
            for name, part in zip(names, state[published].chunk(len(names)))})
    except RuntimeError as error:
        raise InputError(f"{source}: {str(error).splitlines()[-1].strip()}") from error
    return network


def to_published(model: ASTForAudioClassification) -> dict[str, Tensor]:
    """The DataParallel state dict of `from_published`, with zeros for the unused heads of DeiT,
    which the published code expects."""
    state, config = model.state_dict(), model.config
    written = {f"module.{published}": torch.cat([state[name] for name in names])
               for published, names in _layout(config.num_hidden_layers)}
    for head in UNUSED:
        written[f"module.{head}.weight"] = torch.zeros(1000, config.hidden_size)
        written[f"module.{head}.bias"] = torch.zeros(1000)
    return written


def load_folder(folder: Path) -> Network:
    """An AST as `save_pretrained` writes it, together with its feature extractor.

    Raises InputError for a missing part, another architecture, or parts that do not fit.
    """
    model = _pretrained(folder)
    return Network(model.eval(), _front_end(folder, model))


def _front_end(folder: Path, model: ASTForAudioClassification) -> ASTFeatureExtractor:
    if not (folder / "preprocessor_config.json").is_file():
        raise InputError(f"{folder}: no preprocessor_config.json; save the feature extractor that "
                         f"the model was trained with beside it")
    front_end = _quietly(ASTFeatureExtractor.from_pretrained, folder)
    expected = model.config.max_length, model.config.num_mel_bins
    if (front_end.max_length, front_end.num_mel_bins) != expected:
        raise InputError(f"{folder}: the model takes {expected} frames and bins, its feature "
                         f"extractor gives {(front_end.max_length, front_end.num_mel_bins)}")
    return front_end


def load_backbone(source: str) -> tuple[Network, bool]:
    """Any AST, and whether it has a trained head: a folder, a published checkpoint, or a name on
    the hub. Raises InputError for a folder or file that holds none; Unavailable for the hub.
    """
    path = Path(source)
    if path.is_file():
        return load_published(path), True
    if path.is_dir():
        model, missing = _loaded(path)
        return Network(model.eval(), _front_end(path, model)), not missing
    try:
        model, missing = _loaded(source)
        return Network(model.eval(), _quietly(ASTFeatureExtractor.from_pretrained, source)), \
            not missing
    except (InputError, OSError) as error:
        raise Unavailable(f"-n {source}: no such folder or file, and the hub does not give an AST "
                          f"of that name; fetch one elsewhere and name its folder") from error


def class_names(network: Network) -> tuple[str, ...] | None:
    """The names of the network's classes, unless they are LABEL_0, LABEL_1, …"""
    return class_names_of(network.model.config.id2label)


def pretrained(source: str | Path, classes: int) -> Network:
    """The network to fine-tune: an AST (a folder, or a name on the hub) with a fresh head.

    Longer position tables than FRAMES need are cut to their middle in time, as AST's authors do.
    Raises InputError for an AST that the published format cannot hold.
    """
    model = _pretrained(source)
    config = model.config
    wanted = {"patch_size": PATCH, "frequency_stride": STRIDE, "time_stride": STRIDE,
              "num_mel_bins": BINS, "hidden_act": "gelu", "qkv_bias": True,
              "num_attention_heads": config.hidden_size // HEAD_WIDTH}
    other = {key: getattr(config, key) for key in wanted if getattr(config, key) != wanted[key]}
    if other:
        raise InputError(f"{source}: expected {({key: wanted[key] for key in other})} to write it "
                         f"as a published checkpoint, got {other}")
    own = _time_patches(config.max_length)
    patches = min(own, _time_patches(FRAMES))
    network = _network(_config(classes, patches, config.hidden_size, config.num_hidden_layers,
                               config.intermediate_size))
    state = {name: tensor for name, tensor in model.state_dict().items()
             if not name.startswith("classifier.")}
    positions = state[f"{ENCODER}.embeddings.position_embeddings"]
    grid = positions[:, 2:].unflatten(1, (FREQUENCY_PATCHES, own))
    first = own // 2 - patches // 2
    state[f"{ENCODER}.embeddings.position_embeddings"] = torch.cat(
        [positions[:, :2], grid[:, :, first:first + patches].flatten(1, 2)], dim=1)
    network.model.load_state_dict(state, strict=False)
    return network


def _layout(depth: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each published tensor, and the tensors of transformers that it stacks in rows."""
    embeddings = f"{ENCODER}.embeddings"
    yield "v.cls_token", (f"{embeddings}.cls_token",)
    yield "v.dist_token", (f"{embeddings}.distillation_token",)
    yield "v.pos_embed", (f"{embeddings}.position_embeddings",)
    modules = {"v.patch_embed.proj": (f"{embeddings}.patch_embeddings.projection",),
               "v.norm": (f"{ENCODER}.layernorm",),
               "mlp_head.0": ("classifier.layernorm",), "mlp_head.1": ("classifier.dense",)}
    for block in range(depth):
        old, new_ = f"v.blocks.{block}", f"{ENCODER}.layers.{block}"
        modules |= {f"{old}.norm1": (f"{new_}.layernorm_before",),
                    f"{old}.attn.qkv": tuple(f"{new_}.attention.{part}_proj" for part in "qkv"),
                    f"{old}.attn.proj": (f"{new_}.attention.o_proj",),
                    f"{old}.norm2": (f"{new_}.layernorm_after",),
                    f"{old}.mlp.fc1": (f"{new_}.mlp.fc1",),
                    f"{old}.mlp.fc2": (f"{new_}.mlp.fc2",)}
    for published, names in modules.items():
        for kind in ("weight", "bias"):
            yield f"{published}.{kind}", tuple(f"{name}.{kind}" for name in names)


def _config(classes: int, time_patches: int, width: int, depth: int, hidden: int) -> ASTConfig:
    # Ten lengths have the same patches; this one is 512 for the published 50.
    frames = STRIDE * time_patches + 12
    return ASTConfig(
        num_labels=classes, max_length=frames, num_mel_bins=BINS, patch_size=PATCH,
        frequency_stride=STRIDE, time_stride=STRIDE, hidden_size=width, num_hidden_layers=depth,
        num_attention_heads=width // HEAD_WIDTH, intermediate_size=hidden,
        layer_norm_eps=BLOCK_EPS)


def _network(config: ASTConfig) -> Network:
    model = ASTForAudioClassification(config).eval()
    model.classifier.layernorm.eps = HEAD_EPS
    return Network(model, _quietly(
        ASTFeatureExtractor, sampling_rate=RATE, num_mel_bins=BINS, max_length=config.max_length,
        mean=MEAN, std=STD))


def _time_patches(frames: int) -> int:
    return (frames - PATCH) // STRIDE + 1


def _pretrained(source: str | Path) -> ASTForAudioClassification:
    """An AST with all its weights."""
    model, missing = _loaded(source)
    if missing:
        raise InputError(f"{source}: the weights lack {min(missing)} ({len(missing)} tensors are "
                         f"missing)")
    return model


def _loaded(source: str | Path) -> tuple[ASTForAudioClassification, set[str]]:
    """An AST with a complete body, and the missing weights of its head."""
    # Its progress bars and tables would precede our one-line error.
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    local = isinstance(source, Path)
    if local and not (source / "config.json").is_file():
        raise InputError(f"{source}: no config.json; expected the folder of an AST as Hugging "
                         f"Face's save_pretrained writes it")
    instead = "" if local else "; a folder that holds an AST can be named instead"
    with reading.refusing(source, "cannot be loaded as an AST", instead):
        config = AutoConfig.from_pretrained(source, local_files_only=local,
                                            trust_remote_code=False)
        if not isinstance(config, ASTConfig):
            raise InputError(f"{source}: expected an AST, got {config.model_type}")
        model, loading = ASTForAudioClassification.from_pretrained(
            source, local_files_only=local, dtype=torch.float32, output_loading_info=True)
    missing = set(loading["missing_keys"])
    lost = {key for key in missing if not key.startswith("classifier.")}
    if lost:
        raise InputError(f"{source}: the weights lack {min(lost)} ({len(missing)} tensors are "
                         f"missing)")
    return model, missing


def _quietly(make, *args, **kwargs) -> ASTFeatureExtractor:
    """A feature extractor without the warning about empty low mel filters: with 128 bins and 512
    points they are empty in Kaldi's filter bank, too."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "At least one mel filter", UserWarning)
        return make(*args, **kwargs)
