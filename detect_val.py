"""Find label errors in a validation set: baselines and the relation of the set to itself.

    python detect_val.py -n mae_large_49 --pow 4
    python detect_val.py -n mae_large_49 --val_list val.txt   # features, but no images
    python detect_val.py -n digits_60 --pow 4                 # after download.py of the same name

ImageNet's validation images count as noisy unless their label is clean under the ReaL labels
(14,599 of 50,000). Prints AUROC, AP, TNR95 and FPR95 of every score, and the most suspect rows;
writes scores.csv, suspects.csv, metrics.json, scores.png and report.html to the experiment's report
folder.
"""

from argparse import Namespace

from experiment.command import arguments
from experiment.command.launch import launch
from experiment.inputs.extraction import Extraction
from experiment.run.settings import Settings


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    arguments.add_experiment_options(parser, name="mae_large_49")
    arguments.add_relation_options(parser, temperature=4, chunk=250)
    arguments.add_label_options(parser)
    arguments.add_extraction_options(parser, validation=True)
    arguments.add_result_options(parser, cache_dir=arguments.results_beside(__file__))
    return parser


def main(args: Namespace) -> None:
    # Imported here, so that --help does not wait for torch.
    from experiment import detection, sources
    from experiment.command.device import find_device

    find_device(args.device)  # refused before hours of loading
    if args.features is not None:
        data = sources.features(args.features, args.cache_dir)
    else:
        data = sources.validation(args.name, args.dataset, args.cache_dir, args.epoch,
                                  Extraction.of(args))
    detection.report_label_errors(data, Settings.of(args), detection.Output.of(args))


if __name__ == "__main__":
    launch(main, get_args_parser())
