"""The user's own texts: a table with a column of texts and one of labels, and any text model.

If the model's head fits the classes, the feature is the published one, the last hidden state at the
first token; else it is the mean of the last hidden states over a text's tokens. Features are cached
and recomputed when texts or weights change.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas

from experiment.command.device import find_device
from experiment.command.errors import InputError
from experiment.files import packed, separated, writing
from experiment.inputs import given_labels, media, tables
from experiment.inputs.extraction import Extraction
from experiment.inputs.own_data import Rows, class_names_of, find_column, labelled_samples
from experiment.inputs.own_head import OwnHead
from experiment.inputs.samples import Samples
from language import HUB_MODEL, data, features
from language.data import Texts

NAME_LENGTH = 80  # characters of a text shown on screen


@separated.uncollected()
def read(path: Path, text_columns: Sequence[str] | None, label_column: str | None
         ) -> tuple[list[tuple[str, ...]], Rows]:
    """Texts (N,) of all rows, each of one column or two, and the rows that can be used.

    Raises InputError for a missing file or column, and if no row can be used.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    without_header: tuple[str, ...] = ()
    if packed.ending_of(path) in (".csv", ".tsv"):
        found, without_header = table_of(path, text_columns, label_column)
        table = data.frame_of(found)
    else:
        table = data.read_file(path)
    names, label = choose_columns(path, tuple(map(str, table.columns)), text_columns, label_column)
    notes = (f"the table has no header: its columns are taken as {' and '.join(without_header)}",
             ) if without_header else ()
    if len(table) == 0:
        raise InputError(f"{path}: expected at least one row, got none")
    texts = list(zip(*(_strings(table[name]) for name in names)))
    labels = given_labels.read(str(path), [
        None if missing else value for value, missing in zip(table[label], table[label].isna())])
    rows = Rows.of(str(path), [_short(text) for text in texts], labels, notes=notes)
    return texts, rows.drop({row: "an empty text" for row in rows.index
                             if not "".join(texts[row]).strip()})


def table_of(path: Path, text_columns: Sequence[str] | None, label_column: str | None
             ) -> tuple[tables.Table, tuple[str, ...]]:
    """The table, and the names given to its columns if it has no header, else ()."""
    table = tables.read(path)
    names = _names_without_header(path, table, text_columns, label_column)
    return tables.read(path, names=names) if names else table, names


def _names_without_header(path: Path, table: tables.Table, text_columns: Sequence[str] | None,
                          label_column: str | None) -> tuple[str, ...]:
    """The names of the two columns of a CSV or TSV file without a header, or () with one.

    There is none if no usual name is in the first row, but a label that comes again below.
    """
    if text_columns or label_column or packed.ending_of(path) not in (".csv", ".tsv"):
        return ()
    usual = [name for names in (data.LABEL_COLUMNS, *data.TEXT_COLUMNS) for name in names]
    if len(table.columns) != 2 or find_column(table.columns, usual):
        return ()
    values = [set(table.texts(column)) for column in table.columns]
    again = [column for column in (0, 1) if table.columns[column].strip() in values[column]]
    if not again:
        return ()
    label = min(again, key=lambda column: len(values[column]))
    return ("text", "label") if label else ("label", "text")


def choose_columns(path: Path, known: Sequence[str], text_columns: Sequence[str] | None,
                   label_column: str | None) -> tuple[Sequence[str], str]:
    """The columns of texts, one or two, and of labels, of those that the table at `path` has."""
    if text_columns and len(text_columns) > 2:
        raise InputError(f"--text_columns: expected one column, or two for pairs, got "
                         f"{len(text_columns)}")
    names = data.choose(str(path), known, "--text_column",
                        [text_columns] if text_columns else data.TEXT_COLUMNS)
    label, = data.choose(str(path), known, "--label_column", [
        (column,) for column in ([label_column] if label_column else data.LABEL_COLUMNS)])
    return names, label


def load(texts: list[tuple[str, ...]], rows: Rows, folder: Path, name: str | None,
         extraction: Extraction) -> Samples:
    """Samples of labelled texts, by model `name`; features are cached in `folder`."""
    source = name or HUB_MODEL
    weights = Path(source).resolve() if Path(source).is_dir() else None
    kept = Texts(rows.source, tuple(map(list, zip(*(texts[row] for row in rows.index)))), None,
                 None)
    origin = {"weights": source if weights is None else features.fingerprint(weights),
              "texts": kept.fingerprint(), "max_length": extraction.max_length}
    name = writing.distinct((weights or Path(source)).name, Path(rows.source).absolute(), weights)
    path = folder / "features" / f"feat_{name}.pt"
    content = writing.cached(path, origin, partial(_extract, source, kept, extraction))
    own = None if "logit" not in content else OwnHead(
        content["logit"], content["class_names"], features=content["feat_cls"])
    joined = [" | ".join(texts[row]) for row in rows.index]
    return labelled_samples(rows, content["feat_mean"], own, progress=extraction.progress,
                            content={"text": joined}, media=partial(_text, texts))


def _extract(source: str, texts: Texts, extraction: Extraction) -> dict:
    from language import models  # transformers takes seconds to import

    device = find_device(extraction.device)
    classifier, has_head = models.load_backbone(source)
    content = features.extract(classifier, texts, device=device, mean=True,
                               batch_size=extraction.batch_size,
                               max_length=extraction.max_length, progress=extraction.progress)
    if not has_head:
        return {"feat_mean": content["feat_mean"]}
    return content | {"class_names": class_names_of(classifier.model.config.id2label)}


def _strings(values: pandas.Series) -> list[str]:
    """Texts, empty for missing values."""
    texts = []
    for value, missing in zip(values, values.isna()):
        if isinstance(value, float) and value.is_integer():  # a column of integers with gaps
            value = int(value)
        # JSON can hold half a surrogate pair, which UTF-8 cannot.
        texts.append("" if missing else str(value).encode("utf-8", "replace").decode())
    return texts


def _short(text: tuple[str, ...]) -> str:
    line = " ".join(" | ".join(text).split(None, NAME_LENGTH)[:NAME_LENGTH])
    return line if len(line) <= NAME_LENGTH else line[:NAME_LENGTH - 1] + "…"


def _text(texts: list[tuple[str, ...]], row: int) -> media.Media:
    return media.text("\n".join(texts[row]))
