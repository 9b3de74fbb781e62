"""Find label errors in a training set from cached features: baselines and the relation score.

    python detect.py -n digits_noise0.08_60 --pow 4         # after download.py of the same name
    python detect.py -n mae_large_noise0.08_49 --pow 4
    python detect.py --features train.npz                   # your own data, see README

Prints AUROC, AP, TNR95 and FPR95 of every score where the wrong labels are known, how far the
model can be trusted, how many labels are wrong, and the most suspect rows (of your own data by
`auto`, see relation/README.md); writes scores.csv, metrics.json, scores.png and report.html to the
experiment's report folder.
"""

from argparse import Namespace
from functools import partial

from experiment import arguments


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    arguments.add_experiment_options(parser, name="mae_large_noise0.08_49")
    arguments.add_relation_options(parser, temperature=4, chunk=250)
    arguments.add_label_options(parser)
    arguments.add_epochs_option(parser)
    arguments.add_extraction_options(parser, train=True)
    arguments.add_result_options(parser, cache_dir=arguments.results_beside(__file__))
    return parser


def main(args: Namespace) -> None:
    # Imported here, so that --help does not wait for torch.
    from experiment import feature_file, label_errors, pipeline, processes, registry
    from experiment.device import find_device
    from experiment.errors import InputError

    find_device(args.device)  # refused before hours of loading
    if args.features is not None and args.epochs:
        raise InputError("--epochs: a feature file holds one epoch; leave one of the two out")
    if args.features is not None:
        folder = args.cache_dir / args.features.stem
        samples, epochs, history = feature_file.read(args.features, labelled=True), {}, {}
    else:
        experiment = registry.find(args.name, args.dataset, args.cache_dir, args.epoch)
        folder = experiment.folder
        load = partial(registry.loader(experiment.domain).load_train, folder,
                       extraction=arguments.extraction_settings(args))
        if experiment.epoch is None and args.epochs:
            raise InputError(f"--epochs: the files of {args.name} carry no epoch")
        with processes.first_alone():  # it may have to extract features
            samples = load(epoch=experiment.epoch)
            epochs = {f"epoch {epoch}": load(epoch=epoch) for epoch in args.epochs or []}
        mapped = {*args.epochs, experiment.epoch} if args.epochs else ()
        if not args.epochs and len(samples) <= pipeline.AUTO_ROWS and args.checkpoint is None:
            mapped = experiment.saved_epochs()  # soon read, each with weights of its own
        history = {str(epoch): partial(load, epoch=epoch) for epoch in sorted(mapped)}
    label_errors.find_and_report(
        samples, folder, arguments.relation_settings(args), noise_threshold=args.reg,
        n_iter=args.n_iter, graph=args.graph, output=args.output, verbose=args.verbose,
        options=vars(args), show=args.show, epochs=epochs, history=history)


if __name__ == "__main__":
    arguments.launch(main, get_args_parser())
