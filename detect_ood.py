"""Find out-of-distribution samples: baselines and the relation score.

    python detect_ood.py --image_dir TRAIN --test_dir TEST                # your own images
    python detect_ood.py --features train.npz --test_features test.npz    # your own features
    python detect_ood.py -n digits_60 --pow 1               # after download.py of the same name
    python detect_ood.py -n mae_large_49 --pow 1
    python detect_ood.py -n resnet50 --pow 1

Prints AUROC, AP, TNR95 and FPR95 of every score where the outliers are known, for all of them and
for each OOD set, and the most outlying rows; writes scores.csv, metrics.json, scores.png and
report.html to the report folder. metrics.json holds the threshold that keeps 95 % of the
in-distribution rows; experiment/ood_threshold.py applies it to new samples.
"""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from experiment import arguments
from experiment.errors import InputError
from experiment.extraction import Extraction

if TYPE_CHECKING:
    from experiment.samples import Samples

EXPERIMENT = "mae_large_49"  # without -n, and without data of one's own
TEST_OF = {"features": "test_features", "image_dir": "test_dir", "image_csv": "test_dir"}


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    arguments.add_experiment_options(parser, name=EXPERIMENT)
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
    from experiment import ood_detectors, ood_pipeline, processes, registry, report, store
    from experiment.device import find_device

    find_device(args.device)  # refused before hours of loading
    detectors = ood_detectors.find(args.baselines)
    extraction = arguments.extraction_settings(args)
    name = args.name or (None if own else EXPERIMENT)
    if own is None:
        experiment = registry.find(name, args.dataset, args.cache_dir, args.epoch)
        folder = experiment.folder
        with processes.first_alone():  # it may have to extract features
            train, test = registry.loader(experiment.domain).load_ood(folder, experiment.epoch,
                                                                      extraction)
    else:
        sources = getattr(args, own), getattr(args, test_option)
        train_folder, folder = (args.cache_dir / arguments.folder_name_of(source)
                                for source in sources)
        with processes.first_alone():
            train, test = _own_data(own, sources, (train_folder, folder), name, extraction)
    output = args.output or folder / "report"
    store.check_writable(output)
    result = ood_pipeline.find_ood(train, test, arguments.relation_settings(args),
                                   detectors=detectors, progress=args.verbose,
                                   unfinished=folder)
    if processes.is_first():
        with store.alone(output):
            report.write(result, output, settings=vars(args) | {"name": name}, show=args.show)
        report.show(result, output, verbose=args.verbose)


def _own_data(kind: str, sources: tuple[Path, Path], folders: tuple[Path, Path],
              name: str | None, extraction: Extraction) -> tuple["Samples", "Samples"]:
    """Training and test rows of two feature files, or of images seen by the network `name`."""
    source, test_source = sources
    if kind == "features":
        from experiment import feature_file

        return (feature_file.read(source, labelled=False, ignore=("is_noisy",)),
                feature_file.read(test_source, labelled=False, ignore=("labels", "is_noisy")))
    from imagenet import raw

    train = raw.list_folder(source) if kind == "image_dir" else raw.list_table(source)
    return raw.load_ood(train, raw.list_any(test_source), folders, name, extraction)


if __name__ == "__main__":
    arguments.launch(main, get_args_parser())
