"""Write a cleaned copy of your data: labels corrected and rows dropped as was decided.

    python clean.py --decisions decisions.csv --image_dir photos --to cleaned
    python clean.py --decisions decisions.csv --image_dir photos --to cleaned --copy
    python clean.py --decisions decisions.csv --image_csv photos.csv --to cleaned
    python clean.py --decisions decisions.csv --csv reviews.csv --label_column mood --to cleaned
    python clean.py --decisions decisions.csv --features train.npz --to cleaned
    python clean.py --automatic suspects.csv --min_score 0.95 --image_dir photos --to cleaned

decisions.csv is what report.html exports, suspects.csv what detect.py writes beside it. The new
folder gets the data in their own format and changes.csv, which says what changed and why; give it
to detect.py again. The original is only read. Takes seconds, and with --copy as long as copying.
"""

from argparse import Namespace
from pathlib import Path

from experiment.command import arguments
from experiment.command.errors import InputError
from experiment.command.launch import launch
from experiment.command.option_types import share

MIN_SCORE = 0.9  # of the suggestions that --automatic takes


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    group = parser.add_argument_group("what is decided, one of")
    group.add_argument("--decisions", type=Path, metavar="FILE",
                       help="the decisions.csv that report.html exports: index, id, given_label, "
                            "decision (keep, relabel, drop), new_label, and names of labels")
    group.add_argument("--automatic", type=Path, metavar="FILE",
                       help="suspects.csv: outliers and extra copies are dropped, and every other "
                            "label issue gets its suggested label if its score is at least "
                            "--min_score")
    group.add_argument("--min_score", type=share, metavar="S",
                       help=f"least score, 1 - label_score, of a suggestion that --automatic takes "
                            f"(default: {MIN_SCORE}); of auto it is 1 - the probability of the "
                            f"given label")
    group = parser.add_argument_group("data as detect.py had them, one of")
    group.add_argument("--image_dir", type=Path, metavar="DIR",
                       help="a folder with a folder for each class")
    group.add_argument("--image_csv", type=Path, metavar="FILE",
                       help="a table of images with the columns path and label")
    group.add_argument("--csv", type=Path, metavar="FILE",
                       help="a table of texts (.csv, .tsv, .parquet, .json, .jsonl), or of sounds "
                            "with the columns path and label")
    group.add_argument("--features", type=Path, metavar="FILE",
                       help="a feature file (.npz, .pt, .safetensors, .npy, .csv, .tsv, .parquet)")
    group.add_argument("--text_columns", "--text_column", nargs="+", metavar="COLUMN",
                       help="as given to language/detect.py; needed where a table of texts has "
                            "columns path and label, too")
    group.add_argument("--path_column", metavar="COLUMN",
                       help="as given to detect.py or speech/detect.py")
    group.add_argument("--label_column", metavar="COLUMN", help="as given when detecting")
    group = parser.add_argument_group("the cleaned copy")
    group.add_argument("--to", type=Path, metavar="DIR",
                       help="the new folder; one that is there is refused")
    tree = group.add_mutually_exclusive_group()
    tree.add_argument("--copy", action="store_const", dest="tree", const="copy",
                      help="with --image_dir: copy the images to a tree of class folders, too")
    tree.add_argument("--link", action="store_const", dest="tree", const="link",
                      help="with --image_dir: a tree of links to the original images instead")
    group.add_argument("--dry_run", action="store_true",
                       help="check everything and print the counts, but write nothing")
    return parser


def main(args: Namespace) -> None:
    decided = arguments.one_of(args, "decisions", "automatic")
    kind = arguments.one_of(args, "image_dir", "image_csv", "csv", "features")
    if decided is None or kind is None:
        raise InputError("expected --decisions or --automatic, and --image_dir, --image_csv, --csv "
                         "or --features")
    for option, given, needed in (("min_score", args.min_score, args.automatic),
                                  (args.tree, args.tree, args.image_dir),
                                  ("text_columns", args.text_columns, args.csv),
                                  ("path_column", args.path_column, args.csv or args.image_csv),
                                  ("label_column", args.label_column,
                                   args.csv or args.image_csv)):
        if given is not None and needed is None:
            with_ = {"min_score": "automatic", args.tree: "image_dir"}.get(option, "csv")
            raise InputError(f"--{option}: goes with --{with_} only")
    if args.to is None and not args.dry_run:
        raise InputError("--to: expected the name of a new folder, or --dry_run")
    # Imported here, so that --help does not wait for torch.
    from experiment.cleaning import cleaned, decisions
    from experiment.files import new_folder

    if args.to is not None:
        new_folder.check(args.to)  # refused before minutes of loading

    if args.automatic is None:
        found = decisions.read(args.decisions)
        print(decisions.in_words(found))
    else:
        least = MIN_SCORE if args.min_score is None else args.min_score
        found, below = decisions.read_suggestions(args.automatic, least)
        dropped = sum(one.action == decisions.DROP for one in found)
        print(f"{len(found) - dropped:,} labels suggested with a score of at least {least:g} are "
              f"taken, {below:,} below it are not; {dropped:,} outliers and extra "
              f"copies are dropped")
    data = load(kind, getattr(args, kind), args)
    cleaned.write(data, found, None if args.dry_run else args.to)


def load(kind: str, source: Path, args: Namespace):
    """The rows of the data, numbered as in detect.py."""
    from experiment.cleaning import feature_data, images, table_data
    from experiment.inputs.own_data import files_of_table

    if kind == "features":
        return feature_data.of_file(source)
    if kind == "image_dir":
        from imagenet.folders import list_folder

        return images.of_folder(source, *list_folder(source), args.tree)
    columns = args.path_column, args.label_column
    if kind == "image_csv" or args.path_column or not (
            args.text_columns or args.label_column) and _is_of_paths(source):
        return table_data.of_paths(source, files_of_table(source, columns)[1], columns)
    from language import own as own_texts

    columns = args.text_columns, args.label_column
    texts, rows = own_texts.read(source, *columns)
    table, _ = own_texts.table_of(source, *columns)
    _, labels = own_texts.choose_columns(source, table.columns, *columns)
    return table_data.of_texts(source, table, rows, labels, texts)


def _is_of_paths(source: Path) -> bool:
    from experiment.inputs.own_data import find_column, path_table
    from language.data import TEXT_COLUMNS

    try:
        found = path_table(source)
    except InputError:
        return False  # reading it as a table of texts then says what is wrong
    texts = [name for names in TEXT_COLUMNS for name in names]
    return found.paths == "path" or find_column(found.table.columns, texts) is None


if __name__ == "__main__":
    launch(main, get_args_parser())
