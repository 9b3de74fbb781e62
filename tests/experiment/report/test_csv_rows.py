import csv
import io

import numpy as np
import pytest

from experiment.command.escaping import cell
from experiment.report import csv_rows

TEXTS = ["", "plain", "a,b", 'say "so"', "two\nlines", "a\r", "=1+1", "-1", "ä\udcff", " x", "'"]


@pytest.mark.parametrize("quote_text", [False, True])
@pytest.mark.parametrize("step", [1, 3, 8192])
def test_the_same_as_csv_writer(tmp_path, monkeypatch, quote_text, step):
    monkeypatch.setattr(csv_rows, "STEP", step)
    n = len(TEXTS)
    numbers = np.random.default_rng(0).normal(size=n) * 10.0 ** np.arange(-n, n, 2)
    columns = {"index": np.arange(n), "a,name": TEXTS, "text": np.array(TEXTS, dtype=object),
               "half": numbers.astype(np.float32), "whole": numbers, "yes": numbers > 0}
    path = tmp_path / "rows.csv"
    csv_rows.write(path, columns, quote_text=quote_text)
    expected = io.StringIO()
    table = csv.writer(expected, lineterminator="\r\n",
                       quoting=csv.QUOTE_NONNUMERIC if quote_text else csv.QUOTE_MINIMAL)
    table.writerow(columns)
    lines = expected.getvalue()
    with open(path, newline="", encoding="utf-8") as file:
        written = file.read()
    assert written.startswith(lines)
    rows = list(csv.reader(io.StringIO(written)))[1:]
    assert len(rows) == n
    for i, row in enumerate(rows):
        assert row[1] == row[2] == cell(TEXTS[i])
        assert np.float32(row[3]) == columns["half"][i] and float(row[4]) == numbers[i]
        assert row[0] == str(i) and row[5] == str(numbers[i] > 0)
    if not quote_text:
        table.writerows(zip(*(values if isinstance(values, np.ndarray) and
                              values.dtype != object and values.dtype != np.float32 else
                              values.astype(str) if getattr(values, "dtype", None) == np.float32
                              else map(cell, values) for values in columns.values())))
        assert written == expected.getvalue()


def test_float32_is_written_with_its_own_digits(tmp_path):
    csv_rows.write(tmp_path / "rows.csv", {"a": np.array([0.1, 1e-5], dtype=np.float32)})
    assert (tmp_path / "rows.csv").read_bytes() == b"a\r\n0.1\r\n1e-05\r\n"
