"""Loading text classifiers as the transformers library saves them.

Which hidden state is the feature: `features`.
"""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BatchEncoding,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from experiment.command.errors import InputError, Unavailable, reason_of
from experiment.files import reading
from experiment.files.checks import BROKEN
from language.layout import homes_of

# Package -> module, in the order in which transformers asks for them.
TOKENIZER_PACKAGES = {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf",
                      "tiktoken": "tiktoken"}


class Classifier(NamedTuple):
    model: PreTrainedModel  # float32
    tokenizer: PreTrainedTokenizerBase

    def encode(self, columns: Sequence[list[str]], max_length: int) -> BatchEncoding:
        """Token ids and masks of texts (one list, or two for pairs), cut and padded on the right.

        At most max_length tokens, and no more than the model has positions.
        """
        limit = min(max_length, self.tokenizer.model_max_length, _positions(self.model))
        return self.tokenizer(*columns, truncation=True, max_length=limit, padding=True,
                              return_tensors="pt")


def load(weights: Path, homes: Sequence[Path]) -> Classifier:
    """The classifier whose weights lie in `weights`, config and tokenizer in one of `homes`.

    Weights become float32. Raises InputError for anything missing: transformers itself would fill
    in random weights for a missing head, and return a tokenizer of five words for a missing
    vocabulary.
    """
    quieten()
    local = dict(local_files_only=True, trust_remote_code=False)
    home = next((home for home in homes if (home / "config.json").is_file()), None)
    if home is None:
        raise InputError(f"{homes[-1]}: no config.json")
    with reading.refusing(weights, "not a model that transformers can load"):
        config = AutoConfig.from_pretrained(home, **local)
        _pad_with_end(config, str(home))
        model, report = AutoModelForSequenceClassification.from_pretrained(
            weights, config=config, dtype=torch.float32, output_loading_info=True, **local)
    if report["missing_keys"]:
        raise InputError(f"{weights}: expected a model fine-tuned for classification, but its "
                         f"weights lack {', '.join(sorted(report['missing_keys'])[:4])}")
    return Classifier(model.eval(), _tokenizer(homes, model.config, local=True))


def start_from(source: str, *, classes: int, class_names: Sequence[str] | None) -> Classifier:
    """A pretrained model to fine-tune, from a folder or by its name on the hub.

    If it has no head for so many classes it gets a random one, from torch's global generator.
    Raises InputError for a source that cannot be loaded, or that lacks weights of the body.
    """
    quieten()
    named = dict(num_labels=classes) if class_names is None else dict(
        id2label=dict(enumerate(class_names)),
        label2id={name: label for label, name in enumerate(class_names)})
    with reading.refusing(f"--init {source}",
                          "neither a model's folder nor one that the hub gives"):
        model, report = AutoModelForSequenceClassification.from_pretrained(
            source, dtype=torch.float32, trust_remote_code=False, ignore_mismatched_sizes=True,
            output_loading_info=True, **named)
    keys = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    # BERT's pooler may be new too: language models have none.
    lost = sorted(key for key in keys if key.startswith(f"{model.base_model_prefix}.")
                  and ".pooler." not in key)
    if lost:
        raise InputError(f"--init {source}: weights missing or of another size: "
                         f"{', '.join(lost[:4])}")
    _pad_with_end(model.config, f"--init {source}")
    homes = homes_of(Path(source).resolve()) if Path(source).is_dir() else [source]
    return Classifier(model, _tokenizer(homes, model.config, local=False))


def load_backbone(source: str) -> tuple[Classifier, bool]:
    """Any text model, from a folder or by its name on the hub, and whether it has a trained head.

    Raises InputError for a folder without one, Unavailable if the hub does not provide it.
    """
    quieten()
    local = Path(source).is_dir()
    try:
        with reading.refusing(source, "not a model that transformers can load"):
            model, report = AutoModelForSequenceClassification.from_pretrained(
                source, dtype=torch.float32, trust_remote_code=False, output_loading_info=True,
                local_files_only=local)
    except InputError as error:
        if local:
            raise
        raise Unavailable(f"-n {source}: no such folder, and the hub does not give a model of that "
                          f"name ({reason_of(error.__cause__)}); fetch one elsewhere and name its "
                          f"folder") from error
    _pad_with_end(model.config, source)
    body = f"{model.base_model_prefix}."
    lost = sorted(key for key in report["missing_keys"]
                  if key.startswith(body) and ".pooler." not in key)
    if lost:
        raise InputError(f"{source}: weights are missing: {', '.join(lost[:4])}")
    homes = homes_of(Path(source).resolve()) if local else [source]
    tokenizer = _tokenizer(homes, model.config, local=local)
    return Classifier(model.eval(), tokenizer), not report["missing_keys"]


def quieten() -> None:
    """Switch off progress bars and reports of transformers; missing weights are checked here."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def reads_forward_only(model: PreTrainedModel) -> bool:
    """Whether the first token does not attend to later ones, as in GPT-like models."""
    # Two texts that differ in their last token only, of arbitrary ids.
    probe = torch.tensor([[2, 3, 4], [2, 3, 5]], device=model.device) % model.config.vocab_size
    with torch.inference_mode():
        first = model(input_ids=probe, output_hidden_states=True).hidden_states[-1][:, 0]
    return torch.equal(first[0], first[1])


def _pad_with_end(config: PreTrainedConfig, source: str) -> None:
    """Give a decoder without a padding token, such as GPT-2, its end token for one.

    Padding stands behind the text, where a decoder does not look, and the head takes the last token
    before it. Raises InputError for an encoder-decoder, and where there is no single end token.
    """
    if config.pad_token_id is None and isinstance(config.eos_token_id, int):
        config.pad_token_id = config.eos_token_id
    if config.is_encoder_decoder or config.pad_token_id is None:
        raise InputError(
            f"{source}: expected an encoder, or a decoder, with a padding token or an end token; "
            f"got {config.model_type} with is_encoder_decoder {config.is_encoder_decoder} and "
            f"pad_token_id {config.pad_token_id}")


def _tokenizer(homes: Sequence[Path | str], config: PreTrainedConfig, *, local: bool
               ) -> PreTrainedTokenizerBase:
    """The tokenizer of the first folder that holds one with the model's vocabulary; it pads with
    the model's token if it has none of its own."""
    found, vocab_size, package = [], config.vocab_size, None
    for home in homes:
        try:
            tokenizer = AutoTokenizer.from_pretrained(home, local_files_only=local,
                                                      trust_remote_code=False)
        except (*BROKEN, ImportError) as error:
            found.append(f"{home}: {reason_of(error)}")
            package = package or _missing_package(str(error))
            continue
        # Models often have a few more rows than words, never twice as many.
        if vocab_size // 2 < len(tokenizer) <= vocab_size:
            tokenizer.padding_side = "right"
            if tokenizer.pad_token_id is None:
                tokenizer.pad_token = tokenizer.convert_ids_to_tokens(config.pad_token_id)
            return tokenizer
        found.append(f"{len(tokenizer):,} in {home}")
    if package:
        raise InputError(f"{homes[-1]}: its tokenizer needs the package {package}, which is not "
                         f"installed: pip install {package}")
    raise InputError(f"{homes[-1]}: no tokenizer with the vocabulary of the model; expected "
                     f"{vocab_size:,} words, found {', '.join(found)} (are vocab.json and "
                     f"merges.txt, or tokenizer.json, in the folder?)")


def _missing_package(problem: str) -> str | None:
    """The package that a tokenizer lacks, by transformers' error.

    transformers reads a vocabulary of sentencepiece by tiktoken where the former is missing, and
    then names only the latter.
    """
    if not any(name in problem.lower() for name in TOKENIZER_PACKAGES):
        return None
    return next((name for name, module in TOKENIZER_PACKAGES.items() if not _has(module)), None)


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is part of
        return False


def _positions(model: PreTrainedModel) -> int:
    """The number of tokens that the positions allow; RoBERTa's begin after the padding index."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and name.endswith(("position_embeddings", "wpe")):
            return module.num_embeddings - (0 if module.padding_idx is None
                                            else module.padding_idx + 1)
    positions = getattr(model.config, "max_position_embeddings", -1)
    return positions if positions > 0 else sys.maxsize
