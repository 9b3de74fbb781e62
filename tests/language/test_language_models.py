import json
import shutil

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    DebertaV2Config,
    GPT2Config,
    GPT2ForSequenceClassification,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    T5Config,
    XLMRobertaConfig,
)

from experiment.command.errors import InputError
from language import features, models
from language.data import Texts
from language.schedule import Schedule
from language.training import train

CPU = torch.device("cpu")


def extract(classifier, texts, **how):
    return features.extract(classifier, texts, device=CPU, **{"batch_size": 7, **how})


def by_hand(folder, texts, tokenizer, kind=RobertaForSequenceClassification):
    """Last hidden state at the first token and logits, one text at a time, by transformers."""
    model = kind.from_pretrained(folder, dtype=torch.float32).eval()
    rows = []
    with torch.no_grad():
        for text in texts.columns[0]:
            batch = tokenizer(text, return_tensors="pt")
            rows.append((model.base_model(**batch).last_hidden_state[0, 0],
                         model(**batch).logits[0]))
    return [torch.stack(column) for column in zip(*rows)]


def test_half_precision_roberta_gives_transformers_own_values(model_folder, texts):
    assert RobertaForSequenceClassification.from_pretrained(model_folder).dtype == torch.float16
    classifier = models.load(model_folder, [model_folder])
    assert classifier.model.dtype == torch.float32
    content = extract(classifier, texts)
    feature, logit = by_hand(model_folder, texts, classifier.tokenizer)
    assert content["feat_cls"].shape == (80, 64) and content["logit"].shape == (80, 2)
    torch.testing.assert_close(content["feat_cls"], feature, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(content["logit"], logit, atol=1e-5, rtol=1e-5)
    head = classifier.model.classifier
    with torch.no_grad():  # the head reads that very feature
        torch.testing.assert_close(head.out_proj(torch.tanh(head.dense(content["feat_cls"]))),
                                   content["logit"], atol=1e-5, rtol=1e-5)


def test_published_layout_with_old_weights_in_the_epoch_folder(model_folder, texts):
    expected = extract(models.load(model_folder, [model_folder]), texts)
    epoch = model_folder / "epoch_4"
    epoch.mkdir()
    model = RobertaForSequenceClassification.from_pretrained(model_folder)
    old = model.state_dict() | {"roberta.embeddings.position_ids": torch.arange(50)[None]}
    torch.save(old, epoch / "pytorch_model.bin")
    (model_folder / "model.safetensors").unlink()
    config = json.loads((model_folder / "config.json").read_text())
    config["architectures"] = ["RobertaForSequenceClassification_feat"]
    (model_folder / "config.json").write_text(json.dumps(config))
    content = extract(models.load(epoch, [epoch, model_folder]), texts)
    torch.testing.assert_close(content, expected)


def test_batches_and_padding_do_not_show(classifier, texts):
    one = extract(classifier, texts, batch_size=1)
    torch.testing.assert_close(extract(classifier, texts, batch_size=80), one, atol=1e-5, rtol=1e-5)


@pytest.mark.promise("memory")
def test_out_of_memory_halves_the_batch(classifier, texts, monkeypatch, capsys):
    undisturbed, sizes, original = extract(classifier, texts), [], features._forward

    def short_of_memory(classifier, columns, *how):
        sizes.append(len(columns[0]))
        if len(columns[0]) > 3:
            torch.empty(2**50)  # DefaultCPUAllocator: can't allocate memory
        return original(classifier, columns, *how)
    monkeypatch.setattr(features, "_forward", short_of_memory)
    found = extract(classifier, texts, batch_size=8)
    assert sizes[:4] == [8, 4, 2, 2] and sizes.count(8) == 1 and sizes.count(4) == 1
    assert "out of memory: 2 texts at a time from here on" in capsys.readouterr().out
    torch.testing.assert_close(found, undisturbed, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(features, "_forward", lambda *how: torch.empty(2**50))
    with pytest.raises(InputError, match="out of memory with one text at a time; a smaller networ"):
        extract(classifier, texts, batch_size=8)


def test_pairs_are_two_segments_and_long_texts_are_cut(classifier):
    words = "film " * 400
    texts = Texts("", (["good film", words], ["bad plot", words]), None, None)
    ids = classifier.encode(texts.take([0]), 128)["input_ids"][0]
    assert "</s></s>" in classifier.tokenizer.decode(ids)
    assert classifier.encode(texts.take([1]), 20)["input_ids"].shape == (1, 20)
    # 50 position embeddings, of which RoBERTa leaves the first two unused
    assert classifier.encode(texts.take([1]), 500)["input_ids"].shape == (1, 48)
    assert extract(classifier, texts, max_length=500)["logit"].isfinite().all()


def bert_words(texts):
    return {word: at for at, word in enumerate(
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]",
         *sorted({word for text in texts.columns[0] for word in text.split()})])}


def test_bert_folder(tmp_path, texts):
    words = bert_words(texts)
    folder = tmp_path / "bert"
    BertForSequenceClassification(BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, num_labels=3)).save_pretrained(folder)
    BertTokenizer(vocab=words).save_pretrained(folder)
    classifier = models.load(folder, [folder])
    assert not models.reads_forward_only(classifier.model)
    content = extract(classifier, texts)
    feature, logit = by_hand(folder, texts, classifier.tokenizer, BertForSequenceClassification)
    torch.testing.assert_close(content["feat_cls"], feature, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(content["logit"], logit, atol=1e-5, rtol=1e-5)


def gpt2(classifier, folder, **changes):
    GPT2ForSequenceClassification(GPT2Config(**{
        "vocab_size": len(classifier.tokenizer), "n_embd": 16, "n_layer": 1, "n_head": 2,
        "pad_token_id": classifier.tokenizer.pad_token_id, **changes})).save_pretrained(folder)
    classifier.tokenizer.save_pretrained(folder)
    return folder


def test_model_that_reads_forward_only_is_taken_at_its_last_token(tmp_path, classifier, texts):
    loaded = models.load(folder := gpt2(classifier, tmp_path / "gpt2"), [folder])
    assert models.reads_forward_only(loaded.model)
    content = extract(loaded, texts)
    with torch.no_grad():
        torch.testing.assert_close(loaded.model.score(content["feat_cls"]), content["logit"],
                                   atol=1e-5, rtol=1e-5)


def test_no_padding_token(tmp_path, classifier):
    folder = gpt2(classifier, tmp_path / "gpt2", pad_token_id=None, eos_token_id=None)
    with pytest.raises(InputError, match="or an end token; got gpt2 with .* pad_token_id None"):
        models.load(folder, [folder])


@pytest.mark.parametrize("way", ["load", "load_backbone", "start_from"])
def test_a_decoder_without_a_padding_token_pads_with_its_end(tmp_path, classifier, texts, way):
    """As one text at a time, where nothing is padded."""
    end = classifier.tokenizer.eos_token_id
    classifier.tokenizer.pad_token = None
    folder = gpt2(classifier, tmp_path / "gpt2", pad_token_id=None, eos_token_id=end)
    loaded = {"load": lambda: models.load(folder, [folder]),
              "load_backbone": lambda: models.load_backbone(str(folder))[0],
              "start_from": lambda: models.start_from(str(folder), classes=2, class_names=None),
              }[way]()
    assert loaded.model.config.pad_token_id == loaded.tokenizer.pad_token_id == end
    together, one_by_one = (extract(loaded, texts, batch_size=size) for size in (16, 1))
    for name, values in together.items():
        torch.testing.assert_close(values, one_by_one[name], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name, config", [
    ("spiece.model", T5Config), ("sentencepiece.bpe.model", XLMRobertaConfig),
    ("spm.model", DebertaV2Config)])
@pytest.mark.parametrize("lacking", ["sentencepiece", "protobuf", "tiktoken"])
def test_package_that_a_tokenizer_lacks_is_named(tmp_path, monkeypatch, name, config, lacking):
    (tmp_path / name).write_bytes(b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02")
    config().save_pretrained(tmp_path)
    monkeypatch.setattr(models, "_has", lambda module: module != models.TOKENIZER_PACKAGES[lacking])

    def refuse(*words, **how):  # what transformers says, whatever is installed here
        raise ValueError("`tiktoken` is required to read a `tiktoken` file.")
    monkeypatch.setattr(models.AutoTokenizer, "from_pretrained", refuse)
    with pytest.raises(InputError, match=f"needs the package {lacking}, which is not installed: "
                                         f"pip install {lacking}$"):
        models._tokenizer([tmp_path], config(), local=True)


@pytest.mark.parametrize("words", [None, 900])
def test_vocabulary_missing_or_of_another_model(model_folder, classifier, words):
    for path in model_folder.glob("*token*"):
        path.unlink()
    if words is not None:
        extra = {f"word{at}": at for at in range(len(classifier.tokenizer), 900)}
        classifier.tokenizer.add_tokens(list(extra))
        classifier.tokenizer.save_pretrained(model_folder)
    with pytest.raises(InputError, match=r"mine: no tokenizer with the vocabulary of the model; "
                                         r"expected \d+ words, found (5|900) in .*merges.txt"):
        models.load(model_folder, [model_folder])


def test_no_classification_head(model_folder, classifier):
    RobertaForMaskedLM(classifier.model.config).save_pretrained(model_folder)
    with pytest.raises(InputError, match="weights lack classifier.dense.bias, classifier.dense"):
        models.load(model_folder, [model_folder])


def test_sequence_to_sequence_model(model_folder):
    T5Config().save_pretrained(model_folder)
    with pytest.raises(InputError, match="mine: expected an encoder.*; got t5 with is_encoder_d"):
        models.load(model_folder, [model_folder])


@pytest.mark.parametrize("name, content, message", [
    ("config.json", None, "no config.json"),
    ("config.json", b"{", "not a model that transformers can load"),
    ("config.json", b'{"model_type": "unheard"}', "not a model that transformers can load"),
    ("model.safetensors", None, "not a model that transformers can load"),
    ("model.safetensors", b"torn", "not a model that transformers can load"),
])
def test_broken_folders(model_folder, name, content, message):
    if content is None:
        (model_folder / name).unlink()
    else:
        (model_folder / name).write_bytes(content)
    with pytest.raises(InputError, match=f"mine: {message}"):
        models.load(model_folder, [model_folder])


def test_weights_of_another_size(model_folder):
    config = json.loads((model_folder / "config.json").read_text())
    (model_folder / "config.json").write_text(json.dumps(config | {"hidden_size": 32}))
    with pytest.raises(InputError, match="mine: not a model that transformers can load"):
        models.load(model_folder, [model_folder])


def test_start_from_a_folder_gets_a_new_head(model_folder, classifier):
    shutil.rmtree(model_folder)
    RobertaForMaskedLM(classifier.model.config).save_pretrained(model_folder)
    classifier.tokenizer.save_pretrained(model_folder)
    start = models.start_from(str(model_folder), classes=3, class_names=("a", "b", "c"))
    assert start.model.config.num_labels == 3 and start.model.config.id2label[2] == "c"
    assert len(start.tokenizer) == len(classifier.tokenizer)


def test_start_from_an_epoch_finds_the_tokenizer_one_folder_up(tmp_path, classifier, texts):
    train(classifier, texts, texts.labels, tmp_path / "m", schedule=Schedule(epochs=1))
    start = models.start_from(str(tmp_path / "m/epoch_1"), classes=2, class_names=None)
    assert len(start.tokenizer) == len(classifier.tokenizer)


def test_start_from_weights_of_another_size(model_folder):
    config = json.loads((model_folder / "config.json").read_text())
    (model_folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 32}))
    with pytest.raises(InputError, match="mine: weights missing or of another size: roberta.enc"):
        models.start_from(str(model_folder), classes=2, class_names=None)


def test_start_from_nowhere(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="--init no/model: neither a model's folder nor one that"):
        models.start_from("no/model", classes=2, class_names=None)
