"""Find label errors in a training set: baselines and the relation score.

    python detect.py --image_dir DIR                        # your own images, a folder per class
    python detect.py --image_csv FILE -n FOLDER             # path,label; any timm or HF network
    python detect.py --features train.npz                   # your own features, see README
    python detect.py -n digits_noise0.08_60 --pow 4         # after download.py of the same name
    python detect.py -n mae_large_noise0.08_49 --pow 4

Prints AUROC, AP, TNR95 and FPR95 of every score where the wrong labels are known, how far the
model can be trusted, how many labels are wrong, and the most suspect rows (of your own data by
`auto`, see relation/README.md); writes scores.csv, metrics.json, scores.png, suspects.csv and
report.html to the experiment's report folder. Features of images are extracted once and kept.
"""

from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from experiment import arguments
from experiment.errors import InputError
from experiment.extraction import Extraction

if TYPE_CHECKING:
    from experiment.samples import Samples

EXPERIMENT = "mae_large_noise0.08_49"  # without -n, and without data of one's own


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    arguments.add_experiment_options(parser, name=EXPERIMENT)
    arguments.add_relation_options(parser, temperature=4, chunk=250)
    arguments.add_label_options(parser)
    arguments.add_epochs_option(parser)
    arguments.add_extraction_options(parser, train=True)
    arguments.add_result_options(parser, cache_dir=arguments.results_beside(__file__))
    return parser


def main(args: Namespace) -> None:
    # Imported here, so that --help does not wait for torch.
    from experiment import label_errors, processes
    from experiment.device import find_device

    find_device(args.device)  # refused before hours of loading
    extraction = arguments.extraction_settings(args)
    own = arguments.one_of(args, "features", "image_dir", "image_csv")
    name = args.name or (None if own else EXPERIMENT)
    epochs = {}
    if own is not None and args.epochs:
        raise InputError(f"--epochs: --{own} holds one epoch; leave one of the two out")
    with processes.first_alone():  # it may have to extract features
        if own is None:
            folder, samples, epochs = _experiment(name, args.dataset, args.cache_dir, args.epoch,
                                                  args.epochs or [], extraction)
        else:
            source = getattr(args, own)
            folder = args.cache_dir / arguments.folder_name_of(source)
            samples = _own_data(own, source, folder, name, extraction)
    label_errors.find_and_report(
        samples, folder, arguments.relation_settings(args), noise_threshold=args.reg,
        n_iter=args.n_iter, graph=args.graph, output=args.output, verbose=args.verbose,
        options=vars(args) | {"name": name}, show=args.show, epochs=epochs)


def _own_data(kind: str, source: Path, folder: Path, name: str | None, extraction: Extraction
              ) -> "Samples":
    """A feature file, or images as the network `name` sees them, with features kept in `folder`."""
    if kind == "features":
        from experiment import feature_file

        return feature_file.read(source, labelled=True)
    from imagenet import raw

    images = raw.list_folder(source) if kind == "image_dir" else raw.list_table(source)
    return raw.load(images, folder, name, extraction)


def _experiment(name: str, dataset: str, cache_dir: Path, epoch: int | None, epochs: list[int],
                extraction: Extraction) -> tuple[Path, "Samples", dict[str, "Samples"]]:
    """Folder and samples of an experiment, and its samples at other epochs."""
    from experiment import registry

    experiment = registry.find(name, dataset, cache_dir, epoch)
    load = partial(registry.loader(experiment.domain).load_train, experiment.folder,
                   extraction=extraction)
    if experiment.epoch is None and epochs:
        raise InputError(f"--epochs: the files of {name} carry no epoch")
    samples = load(epoch=experiment.epoch)
    return experiment.folder, samples, {f"epoch {each}": load(epoch=each) for each in epochs}


if __name__ == "__main__":
    arguments.launch(main, get_args_parser())
