"""Find label errors in a training set: baselines and the relation score.

    python detect.py --image_dir DIR                        # your own images, a folder per class
    python detect.py --image_csv FILE -n FOLDER             # path,label; any timm or HF network
    python detect.py --features train.npz                   # your own features, see docs/data.md
    python detect.py --image_dir DIR --decisions decisions.csv   # again, after some rows' review
    python detect.py -n digits_noise0.08_60 --pow 4         # after download.py of the same name
    python detect.py -n mae_large_noise0.08_49 --pow 4

Prints AUROC, AP, TNR95 and FPR95 of every score where the wrong labels are known, how far the
model can be trusted, how many labels are wrong, and the most suspect rows (of your own data by
`auto`, see relation/README.md); writes scores.csv, metrics.json, scores.png, suspects.csv and
report.html to the experiment's report folder. Features of images are extracted once and kept.
"""

from argparse import Namespace
from dataclasses import replace

from experiment.command import arguments
from experiment.command.errors import InputError
from experiment.command.launch import launch
from experiment.inputs.extraction import Extraction
from experiment.run.settings import Settings

EXPERIMENT = "mae_large_noise0.08_49"  # without -n, and without data of one's own


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    arguments.add_experiment_options(parser, name=EXPERIMENT, images=True)
    arguments.add_relation_options(parser, temperature=4, chunk=250)
    arguments.add_label_options(parser)
    arguments.add_decisions_option(parser)
    arguments.add_epochs_option(parser)
    arguments.add_extraction_options(parser, train=True)
    arguments.add_image_options(parser)
    arguments.add_result_options(parser, cache_dir=arguments.results_beside(__file__))
    return parser


def main(args: Namespace) -> None:
    # Imported here, so that --help does not wait for torch.
    from experiment import detection, sources
    from experiment.cleaning import settled
    from experiment.command.device import find_device
    from imagenet import own as images

    find_device(args.device)  # refused before hours of loading
    extraction = Extraction.of(args)
    own = arguments.one_of(args, "features", "image_dir", "image_csv")
    arguments.check_image_options(args)
    name = args.name or (None if own else EXPERIMENT)
    if own is None and args.decisions is not None:
        raise InputError("--decisions: goes with --features, --image_dir or --image_csv only")
    if own is None:
        data = sources.experiment(name, args.dataset, args.cache_dir, args.epoch,
                                  args.epochs or [], extraction)
    elif args.epochs:
        raise InputError(f"--epochs: --{own} holds one epoch; leave one of the two out")
    elif own == "features":
        data = sources.features(args.features, args.cache_dir)
        data = replace(data, samples=settled.samples(data.samples, args.decisions))
    else:
        path, columns = getattr(args, own), (args.path_column, args.label_column)
        found = images.list_source(own, path, columns)
        found = found._replace(rows=settled.rows(found.rows, args.decisions))
        data = sources.Source(*images.load_source(found, path, args.cache_dir, name, extraction))
    detection.report_label_errors(data, Settings.of(args), detection.Output.of(args, name=name))


if __name__ == "__main__":
    launch(main, get_args_parser())
