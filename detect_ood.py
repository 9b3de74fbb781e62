"""Find out-of-distribution samples: baselines and the relation score.

    python detect_ood.py --image_dir TRAIN --test_dir TEST                # your own images
    python detect_ood.py --features train.npz --test_features test.npz    # your own features
    python detect_ood.py --features train.npz --test_features new.npz --threshold_from REPORT
    python detect_ood.py -n digits_60 --pow 1               # after download.py of the same name
    python detect_ood.py -n mae_large_49 --pow 1
    python detect_ood.py -n resnet50 --pow 1

Prints AUROC, AP, TNR95 and FPR95 of every score where the outliers are known, for all of them and
for each OOD set, and the most outlying rows; writes scores.csv, suspects.csv, metrics.json,
scores.png and report.html to the report folder. metrics.json holds the threshold that keeps 95 % of
the in-distribution rows; with --threshold_from and the report of such a run, the test rows are
judged by it, and judged.csv says which are outliers.
"""

from argparse import Namespace

from experiment.command import arguments
from experiment.command.errors import InputError
from experiment.command.launch import launch
from experiment.inputs.extraction import Extraction
from experiment.run.settings import Settings

EXPERIMENT = "mae_large_49"  # without -n, and without data of one's own
TEST_OF = {"features": "test_features", "image_dir": "test_dir", "image_csv": "test_dir"}


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    arguments.add_experiment_options(parser, name=EXPERIMENT, images=True)
    arguments.add_ood_options(parser)
    arguments.add_relation_options(parser, temperature=1, chunk=250)
    arguments.add_extraction_options(parser, train=True, ood=True)
    arguments.add_image_options(parser)
    arguments.add_result_options(parser, cache_dir=arguments.results_beside(__file__))
    return parser


def main(args: Namespace) -> None:
    own = arguments.one_of(args, *TEST_OF)
    arguments.check_image_options(args)
    test_option = arguments.one_of(args, "test_features", "test_dir")
    if test_option != TEST_OF.get(own):
        raise InputError("expected both --features (training rows) and --test_features, or both "
                         "--image_dir (or --image_csv) and --test_dir, or none of them")
    # Imported here, so that --help does not wait for torch.
    from experiment import detection, sources
    from experiment.command.device import find_device
    from experiment.run import ood_baselines
    from imagenet import own as images

    find_device(args.device)  # refused before hours of loading
    detectors = ood_baselines.find(args.baselines)
    extraction = Extraction.of(args)
    name = args.name or (None if own else EXPERIMENT)
    if own is None:
        pair = sources.experiment_pair(name, args.dataset, args.cache_dir, args.epoch, extraction)
    elif own == "features":
        pair = sources.features_pair(args.features, args.test_features, args.cache_dir)
    else:
        pair = sources.Pair(*images.load_source_pair(
            own, (getattr(args, own), args.test_dir), args.cache_dir, name, extraction,
            (args.path_column, args.label_column)))
    output = detection.Output.of(args, name=name)
    if args.threshold_from is not None:
        detection.report_judgement(pair, args.threshold_from, args.device, output)
    else:
        detection.report_outliers(pair, Settings.of(args), output, detectors)


if __name__ == "__main__":
    launch(main, get_args_parser())
