import datasets
import pandas
import pytest

from experiment.command.errors import InputError, Unavailable
from language import data

WRITERS = {
    ".tsv": lambda table, path: table.to_csv(path, sep="\t", index=False, quoting=3),
    ".csv": lambda table, path: table.to_csv(path, index=False),
    ".parquet": lambda table, path: table.to_parquet(path),
    ".json": lambda table, path: table.to_json(path, orient="records"),
    ".jsonl": lambda table, path: table.to_json(path, orient="records", lines=True),
}
# Words that a careless reader would drop, turn into something else, or stumble over.
ODD = ['she said "no"', "NA", "null", "", "1999", "2020-01-01", "naïve – 你好", "'tis, so"]


def write(folder, columns, name="train.csv"):
    folder.mkdir(exist_ok=True)
    path = folder / name
    WRITERS[path.suffix](pandas.DataFrame(columns), path)
    return folder


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_gives_the_texts_as_they_stand(tmp_path, suffix):
    labels = [0, 1] * 4
    folder = write(tmp_path / "d", {"idx": range(8), "sentence": ODD, "label": labels},
                   f"train{suffix}")
    texts = data.load("sst2", "train", folder)
    assert texts.columns == (ODD,) and texts.labels.tolist() == labels
    assert texts.class_names == ("negative", "positive") and texts.classes == 2
    assert texts.joined() == ODD and texts.take([1, 0]) == (["NA", 'she said "no"'],)


def test_pairs_and_label_names_in_the_order_of_the_task(tmp_path):
    folder = write(tmp_path / "d", {
        "index": [0, 1, 2], "sentence1": ["a", "b", "c"], "sentence2": ["x", "y", "z"],
        "label1": ["neutral"] * 3, "gold_label": ["neutral", "Entailment", "contradiction"]})
    texts = data.load("mnli", "train", folder)
    assert texts.columns == (["a", "b", "c"], ["x", "y", "z"])
    assert texts.labels.tolist() == [1, 0, 2] and texts.joined()[0] == "a | x"


def test_own_label_names_are_sorted_and_kept_for_the_held_out_split(tmp_path):
    folder = write(tmp_path / "d", {"text": list("abc"), "label": ["sport", "art", "news"]})
    write(folder, {"text": ["d"], "label": ["sport"]}, "val.csv")
    texts = data.load("mine", "train", folder)
    assert texts.class_names == ("art", "news", "sport") and texts.labels.tolist() == [2, 0, 1]
    held_out = data.load("mine", "validation", folder, class_names=texts.class_names)
    assert held_out.labels.tolist() == [2]


def test_columns_can_be_named_and_labels_can_be_absent(tmp_path):
    folder = write(tmp_path / "d", {"body": ["a"], "title": ["b"], "kind": [3]})
    texts = data.load("mine", "train", folder, text_columns=["title", "body"], label_column="kind")
    assert texts.columns == (["b"], ["a"]) and texts.labels.tolist() == [3]
    assert texts.classes == 4 and texts.class_names is None
    texts = data.load("mine", "train", folder, text_columns=["body"], need_labels=False)
    assert texts.labels is None


def test_parts_as_the_hub_names_them_are_joined(tmp_path, table):
    for part, rows in enumerate((table[:50], table[50:])):
        write(tmp_path / "d", rows, f"train-0000{part}-of-00002.parquet")
    assert data.load("sst2", "train", tmp_path / "d").columns[0] == table["sentence"].tolist()


def test_matched_half_of_mnli_is_the_validation_split(tmp_path):
    for name in ("dev_mismatched.tsv", "dev_matched.tsv"):
        folder = write(tmp_path / "d", {"premise": [name], "hypothesis": ["x"], "label": [0]}, name)
    assert data.load("mnli", "validation", folder).columns[0] == ["dev_matched.tsv"]
    assert data.has_split("validation", folder) and not data.has_split("train", folder)


def test_fingerprint_sees_texts_and_their_borders(tmp_path):
    prints = {data.Texts("", columns, None, None).fingerprint()
              for columns in ((["a", "b"],), (["b", "a"],), (["ab"],), (["a"], ["b"]))}
    assert len(prints) == 4


SENTENCE = {"sentence": ["a", "b"]}


@pytest.mark.parametrize("columns, message", [
    ({"phrase": ["a"], "label": [0]}, "no column 'premise' and 'hypothesis', or .* 'text'; found "
                                      "phrase, label .choose with --text_columns."),
    (SENTENCE, "no column 'label', or 'gold_label', or 'given_name', or 'given_label'; found "
               "sentence .choose with --label_column."),
    (SENTENCE | {"label": [0, 2]}, "labels: expected 0 to 1, got 2 in row 1"),
    (SENTENCE | {"label": [-1, 0]}, "labels: expected 0 to 1, got -1 in row 0"),
    (SENTENCE | {"label": ["positive", "good"]},
     "labels: expected negative, positive, got 'good' in row 1"),
    (SENTENCE | {"label": ["positive", ""]}, "no label in row 1"),
    ({"sentence": [], "label": []}, "expected at least one row, got none"),
])
def test_refuses_columns_and_labels(tmp_path, columns, message):
    with pytest.raises(InputError, match=f"train.csv: {message}"):
        data.load("sst2", "train", write(tmp_path / "d", columns))


@pytest.mark.parametrize("columns, message", [
    (SENTENCE | {"label": [0.5, 1]}, "labels: expected whole numbers or names, got 0.5 in row 0"),
    ({"sentence": ["a", None], "label": [0, 1]},
     "expected text in column 'sentence', got nan in row 1"),
    ({"sentence": [3, 4], "label": [0, 1]}, "expected text in column 'sentence', got 3 in row 0"),
])
def test_refuses_values_of_typed_files(tmp_path, columns, message):
    with pytest.raises(InputError, match=f"train.parquet: {message}"):
        data.load("sst2", "train", write(tmp_path / "d", columns, "train.parquet"))


@pytest.mark.parametrize("name, content, message", [
    ("train.csv", b"sentence,label\nhello, world,1\n", "not a readable .csv table"),
    ("train.csv", b"sentence,label\na,1\nb, c,1\n", "not a readable .csv table"),
    ("train.csv", b"", "not a readable .csv table"),
    ("train.tsv", b"sentence\tlabel\n\xff\xfe\t1\n", "not a readable .tsv table .*utf-8"),
    ("train.parquet", b"PAR1", "not a readable .parquet table"),
    ("train.json", b"{", "not a readable .json table"),
])
def test_refuses_broken_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: {message}"):
        data.load("sst2", "train", tmp_path)


def test_refuses_folders(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        data.load("sst2", "train", tmp_path / "nowhere")
    write(tmp_path, SENTENCE, "test.csv")
    with pytest.raises(InputError, match="no train split; expected train with .tsv, .csv, .* found "
                                         "test.csv"):
        data.load("sst2", "train", tmp_path)
    for name in ("train.csv", "train.tsv"):
        write(tmp_path, SENTENCE, name)
    with pytest.raises(InputError, match="one file of the train split, found train.csv, train.tsv"):
        data.load("sst2", "train", tmp_path)


def test_data_folder_of_the_task_comes_before_the_hub(tmp_path):
    assert data.find_folder(tmp_path, None) is None
    (tmp_path / "data").mkdir()
    assert data.find_folder(tmp_path, None) == tmp_path / "data"
    assert data.find_folder(tmp_path, tmp_path) == tmp_path


def test_hub(monkeypatch):
    # The real hub is not asked: this shows what is asked for and what is made of the answer.
    asked = []

    def load_dataset(*words, split):
        asked.append((*words, split))
        return datasets.Dataset.from_dict({"premise": ["a"], "hypothesis": ["b"], "label": [2],
                                           "idx": [0]})
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert data.load("mnli", "train", None).labels.tolist() == [2]
    data.load("mnli", "validation", None)
    assert asked == [("nyu-mll/glue", "mnli", "train"),
                     ("nyu-mll/glue", "mnli", "validation_matched")]


def test_hub_out_of_reach(monkeypatch):
    def load_dataset(*words, split):
        raise ConnectionError("Couldn't reach the Hub")
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(Unavailable, match="sst2: cannot be fetched .*reach.*; give .* --data_dir"):
        data.load("sst2", "train", None)
    with pytest.raises(InputError, match="--task_name mine: no texts; .*only sst2, mnli are"):
        data.load("mine", "train", None)
