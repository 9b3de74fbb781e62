"""Find out-of-distribution samples: baselines and the relation score.

    python detect_ood.py --image_dir TRAIN --test_dir TEST                # your own images
    python detect_ood.py --features train.npz --test_features test.npz    # your own features
    python detect_ood.py -n digits_60 --pow 1               # after download.py of the same name
    python detect_ood.py -n mae_large_49 --pow 1
    python detect_ood.py -n resnet50 --pow 1

Prints AUROC, AP, TNR95 and FPR95 of every score where the outliers are known, for all of them and
for each OOD set, and the most outlying rows; writes scores.csv, suspects.csv, metrics.json,
scores.png and report.html to the report folder. metrics.json holds the threshold that keeps 95 % of
the in-distribution rows; experiment/run/ood_threshold.py applies it to new samples.
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
    arguments.add_relation_options(parser, temperature=1, chunk=250,
                                   hop_keeps="training row, for the relation and KNN")
    arguments.add_extraction_options(parser, train=True, ood=True)
    arguments.add_result_options(parser, cache_dir=arguments.results_beside(__file__))
    return parser


def main(args: Namespace) -> None:
    own = arguments.one_of(args, *TEST_OF)
    test_option = arguments.one_of(args, "test_features", "test_dir")
    if test_option != TEST_OF.get(own):
        raise InputError("expected both --features (training rows) and --test_features, or both "
                         "--image_dir (or --image_csv) and --test_dir, or none of them")
    # Imported here, so that --help does not wait for torch.
    from experiment import sources
    from experiment.command import processes
    from experiment.command.device import find_device
    from experiment.files import writing
    from experiment.report import scores, screen
    from experiment.run import memory, ood, ood_baselines

    find_device(args.device)  # refused before hours of loading
    detectors = ood_baselines.find(args.baselines)
    extraction = Extraction.of(args)
    name = args.name or (None if own else EXPERIMENT)
    if own is None:
        train, test, folder = sources.experiment_pair(name, args.dataset, args.cache_dir,
                                                      args.epoch, extraction)
    else:
        paths = getattr(args, own), getattr(args, test_option)
        train, test, folder = sources.own_pair(own, paths, args.cache_dir, name, extraction)
    output = args.output or folder / "report"
    writing.check_writable(output)
    settings = memory.fit(test, Settings.of(args), auto=False, target=train,
                          progress=args.verbose)
    result = ood.find_ood(train, test, settings, detectors=detectors,
                                   progress=args.verbose, unfinished=folder)
    if processes.is_first():
        with processes.by_itself(), writing.alone(output):
            files = scores.write(result, output, settings=vars(args) | {"name": name},
                                 show=args.show)
        screen.show(result, output, files, verbose=args.verbose)


if __name__ == "__main__":
    launch(main, get_args_parser())
