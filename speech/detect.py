"""Find wrong labels among the clips of ESC-50, or of your own sounds, by how they relate.

    python speech/detect.py --csv FILE          # your own: path,label
    python speech/download.py                   # published features, labels and model: 338 MB
    python speech/detect.py
    python speech/detect.py -t demo             # after download.py -t demo, which needs no network
    python speech/detect.py -t mine -n my_ast --data_dir my_clips     # see speech/README.md

Prints AUROC, AP, TNR95 and FPR95 of every score where the wrong labels are known, and the most
suspect clips; writes scores.csv, metrics.json, scores.png, suspects.csv and report.html to the
task's report folder. Takes seconds once the features are there; extracting them takes AST about
1.5 GB.
"""

import sys
from argparse import Namespace
from pathlib import Path

if __name__ == "__main__":  # the project's root instead of this folder on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiment.command import arguments
from experiment.command.errors import InputError
from experiment.command.launch import launch
from experiment.command.option_types import folder_name, positive_integer
from experiment.inputs.extraction import Extraction
from experiment.run.settings import Settings
from speech import AUDIOSET_MODEL


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    group = parser.add_argument_group("data")
    group.add_argument("--csv", type=Path, metavar="FILE",
                       help="your own sounds instead of a task: a table with the columns path "
                            "(relative to it) and label; -n is then any AST (default: "
                            f"{AUDIOSET_MODEL} from the hub)")
    arguments.add_column_options(group)
    group.add_argument("-t", "--task_name", type=folder_name, default="esc50", metavar="TASK",
                       help="esc50, demo, or the name you gave your own (default: %(default)s)")
    group.add_argument("-n", "--model_name", default="ast", metavar="ast|PATH",
                       help="ast is the task's own model, PATH a folder of an AST as Hugging Face "
                            "saves it, or with --csv also a published checkpoint or a name on the "
                            "hub (default: %(default)s)")
    group.add_argument("-e", "--epoch", type=positive_integer, default=25, metavar="E",
                       help="epoch of the task's own model (default: %(default)s)")
    group.add_argument("--data_dir", type=Path, metavar="DIR",
                       help="folder with meta/esc50.csv and audio/, read where features are "
                            "missing, and for names (default: data/ in the task's folder)")
    group.add_argument("--batch_size", type=positive_integer, default=8, metavar="B",
                       help="clips at a time in extraction (default: %(default)s)")
    arguments.add_relation_options(parser, temperature=8, chunk=200)
    arguments.add_label_options(parser)
    arguments.add_decisions_option(parser)
    arguments.add_result_options(parser, cache_dir=arguments.results_beside(__file__))
    return parser


def main(args: Namespace) -> None:
    # Imported here, so that --help does not wait for torch.
    from experiment import detection
    from experiment.command.device import find_device
    from experiment.files.results_folder import results_folder
    from experiment.sources import Source

    find_device(args.device)  # fails before minutes of loading
    extraction = Extraction.of(args)
    named = None if args.model_name == "ast" else args.model_name
    if args.csv is None:
        for option in ("path_column", "label_column", "decisions"):
            if getattr(args, option) is not None:
                raise InputError(f"--{option}: goes with --csv only")
        from speech import samples

        folder = samples.task_folder(args.cache_dir, args.task_name)
        model_folder = None if named is None else Path(named)
        clips = samples.load_train(folder, args.epoch, extraction, data_dir=args.data_dir,
                                   model_folder=model_folder)
        if model_folder is not None:
            folder = folder / model_folder.resolve().name
    else:
        from experiment.cleaning import settled
        from experiment.inputs.own_data import files_of_table
        from speech import own

        arguments.one_of(args, "csv", "data_dir")
        files, rows = files_of_table(args.csv, (args.path_column, args.label_column))
        rows = settled.rows(rows, args.decisions)
        folder = results_folder(args.cache_dir, args.csv)
        clips = own.load(files, rows, folder, named, extraction)
    detection.report_label_errors(Source(clips, folder), Settings.of(args),
                                  detection.Output.of(args))


if __name__ == "__main__":
    launch(main, get_args_parser())
