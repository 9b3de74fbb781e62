"""Find out-of-distribution samples from cached features: baselines and the relation score.

    python detect_ood.py -n digits_60 --pow 1               # after download.py of the same name
    python detect_ood.py -n mae_large_49 --pow 1
    python detect_ood.py -n resnet50 --pow 1
    python detect_ood.py --features train.npz --test_features test.npz    # your own data

Prints AUROC, AP, TNR95 and FPR95 of every score where the outliers are known, for all of them and
for each OOD set, and the most outlying rows; writes scores.csv, metrics.json, scores.png and
report.html to the report folder. metrics.json holds the threshold that keeps 95 % of the
in-distribution rows; experiment/ood_threshold.py applies it to new samples.
"""

from argparse import Namespace

from experiment import arguments
from experiment.errors import InputError


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    arguments.add_experiment_options(parser, name="mae_large_49")
    arguments.add_ood_options(parser)
    arguments.add_relation_options(parser, temperature=1, chunk=250,
                                   hop_keeps="training row, for the relation and KNN")
    arguments.add_extraction_options(parser, train=True, ood=True)
    arguments.add_result_options(parser, cache_dir=arguments.results_beside(__file__))
    return parser


def main(args: Namespace) -> None:
    if (args.features is None) != (args.test_features is None):
        raise InputError("expected both --features (training rows) and --test_features, or neither")
    # Imported here, so that --help does not wait for torch.
    from experiment import (
        feature_file,
        ood_detectors,
        ood_pipeline,
        processes,
        registry,
        report,
        store,
    )
    from experiment.device import find_device

    find_device(args.device)  # refused before hours of loading
    detectors = ood_detectors.find(args.baselines)
    if args.features is not None:
        folder = args.cache_dir / args.test_features.stem
        train = feature_file.read(args.features, labelled=False, ignore=("is_noisy",))
        test = feature_file.read(args.test_features, labelled=False, ignore=("labels", "is_noisy"))
    else:
        experiment = registry.find(args.name, args.dataset, args.cache_dir, args.epoch)
        folder = experiment.folder
        with processes.first_alone():  # it may have to extract features
            train, test = registry.loader(experiment.domain).load_ood(
                folder, experiment.epoch, arguments.extraction_settings(args))
    output = args.output or folder / "report"
    store.check_writable(output)
    result = ood_pipeline.find_ood(train, test, arguments.relation_settings(args),
                                   detectors=detectors, progress=args.verbose,
                                   unfinished=folder)
    if processes.is_first():
        with store.alone(output):
            report.write(result, output, settings=vars(args), show=args.show)
        report.show(result, output, verbose=args.verbose)


if __name__ == "__main__":
    arguments.launch(main, get_args_parser())
