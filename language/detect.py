"""Find label errors in a text data set: SST-2, MNLI, the demo, or your own.

    python language/detect.py --csv FILE --text_column TEXT --label_column LABEL     # your table
    python language/detect.py -t sst2                 # after language/download.py -t sst2
    python language/detect.py -t demo                 # after language/download.py -t demo
    python language/detect.py -t mine --data_dir DIR -n FOLDER   # your texts and classifier

Prints AUROC, AP, TNR95 and FPR95 of every score where the wrong labels are known, and the most
suspect texts; writes scores.csv, metrics.json, scores.png, suspects.csv and report.html to report/
in the task's folder (for other models and epochs than the default: report/ beside their features).
Features that are missing are extracted first.
"""

import sys
from argparse import Namespace
from pathlib import Path

if __name__ == "__main__":  # the project's root instead of this folder on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiment.command import arguments
from experiment.command.errors import InputError
from experiment.command.launch import launch
from experiment.inputs.extraction import Extraction
from experiment.run.settings import Settings
from language import options


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    options.add_own_option(parser)
    options.add_task_options(parser)
    options.add_model_options(parser)
    options.add_extraction_options(parser)
    arguments.add_relation_options(parser, temperature=4, chunk=200)
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

    find_device(args.device)  # fails before hours of loading
    extraction = Extraction.of(args)
    if args.csv is None:
        if args.decisions is not None:
            raise InputError("--decisions: goes with --csv only")
        from language import layout
        from language.data import Columns
        from language.samples import load_train

        folder = args.cache_dir / args.task_name
        own_report = layout.locate(folder, args.model_name, args.epoch).report
        samples = load_train(
            folder, args.epoch, extraction, model_name=args.model_name, data_dir=args.data_dir,
            columns=Columns(args.text_columns, args.label_column))
        folder = own_report.parent
    else:
        from experiment.cleaning import settled
        from language import own

        arguments.one_of(args, "csv", "data_dir")
        texts, rows = own.read(args.csv, args.text_columns, args.label_column)
        folder = results_folder(args.cache_dir, args.csv)
        rows = settled.rows(rows, args.decisions)
        samples = own.load(texts, rows, folder, args.model_name, extraction)
    detection.report_label_errors(Source(samples, folder), Settings.of(args),
                                  detection.Output.of(args))


if __name__ == "__main__":
    launch(main, get_args_parser())
