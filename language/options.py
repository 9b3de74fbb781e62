"""Command-line options that the scripts of this folder share."""

import argparse
from pathlib import Path

from experiment.command import arguments
from experiment.command.option_types import (
    device_name,
    folder_name,
    positive_integer,
    truth,
)
from experiment.inputs.extraction import Extraction
from language import DEMO, EPOCH, HUB_MODEL, PUBLISHED


def add_task_options(parser: argparse.ArgumentParser) -> None:
    """Which texts: a task, and where they lie."""
    group = parser.add_argument_group("data")
    group.add_argument("-t", "--task_name", type=folder_name, default="sst2", metavar="TASK",
                       help="sst2, mnli, demo, or a name for your own texts: the folder under "
                            "--cache_dir (default: %(default)s)")
    group.add_argument("--data_dir", type=Path, metavar="DIR",
                       help="folder with train.tsv, .csv, .parquet, .json or .jsonl (default: "
                            "data/ in the task's folder, then the hub)")
    group.add_argument("--text_columns", "--text_column", nargs="+", metavar="COLUMN",
                       help="one column, or two for pairs (default: sentence, text, premise and "
                            "hypothesis, or sentence1 and sentence2)")
    group.add_argument("--label_column", metavar="COLUMN",
                       help="integers or names (default: label or gold_label)")


def add_own_option(parser: argparse.ArgumentParser) -> None:
    """A table of one's own instead of a task."""
    group = parser.add_argument_group("your own texts")
    group.add_argument("--csv", type=Path, metavar="FILE",
                       help="a table (.csv, .tsv, .parquet, .json, .jsonl) of texts and labels, "
                            "instead of a task; -n is then any text model of the transformers "
                            "library, a folder or a name on the hub "
                            f"(default: {HUB_MODEL})")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which trained model."""
    group = parser.add_argument_group("model")
    group.add_argument("-n", "--model_name", metavar="NAME|PATH",
                       help="folder of the model under the task's, or the path of any folder that "
                            "transformers' save_pretrained wrote (default: "
                            f"{PUBLISHED}; of the demo {DEMO})")
    group.add_argument("-e", "--epoch", type=positive_integer, default=EPOCH, metavar="E",
                       help="of the folders epoch_<E> in the model's, if it has any "
                            "(default: %(default)s)")


def add_extraction_options(parser: argparse.ArgumentParser, *, batch_size: int = 64) -> None:
    """How texts go through the model."""
    group = parser.add_argument_group("texts through the model")
    group.add_argument("--batch_size", type=positive_integer, default=batch_size,
                       metavar="B", help="texts at a time (default: %(default)s)")
    group.add_argument("--max_length", type=positive_integer,
                       default=Extraction.max_length, metavar="L",
                       help="tokens of a text or pair; longer ones are cut (default: %(default)s)")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Where files are, where to compute, how much is said: for scripts without a report."""
    group = parser.add_argument_group("files and output")
    group.add_argument("--cache_dir", type=Path, metavar="DIR",
                       default=arguments.results_beside(__file__),
                       help="folder of the tasks (default: results beside the script)")
    group.add_argument("--device", type=device_name, default="auto",
                       metavar="auto|cpu|cuda[:N]|mps",
                       help="where to compute (default: %(default)s, a GPU if there is one)")
    group.add_argument("--verbose", type=truth, nargs="?", const=True, default=True,
                       metavar="BOOL", help="progress and details (default: %(default)s)")
