"""Fine-tune a text classifier on noisy (or clean) labels, a checkpoint folder per epoch.

    python language/train.py -t sst2                            # noisy labels, as published
    python language/train.py -t sst2 --clean --init roberta-large -n roberta-large
    python language/train.py -t mine --data_dir DIR --clean --init FOLDER -n NAME

AdamW, lr 1e-5, weight decay 0.1, batch 32, fp16 on a GPU, 10 epochs, warm-up 1256 (sst2) or 7432
(mnli) steps. Rerun the same command to resume after the last whole epoch.
"""

import sys
from argparse import Namespace
from pathlib import Path

if __name__ == "__main__":  # the project's root instead of this folder on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiment.command import arguments
from experiment.command.launch import launch
from experiment.command.option_types import (
    folder_name,
    number_from_zero,
    positive_integer,
    positive_number,
)
from language import HUB_MODEL, PUBLISHED, options
from language.schedule import WARMUP, WARMUP_SHARE, Schedule


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    options.add_task_options(parser)
    group = parser.add_argument_group("training")
    group.add_argument("-n", "--model_name", type=folder_name,
                       default=PUBLISHED, metavar="NAME",
                       help="folder of the model under the task's (default: %(default)s)")
    group.add_argument("--init", default=HUB_MODEL, metavar="MODEL",
                       help="model to start from: a folder, or a name on the hub "
                            "(default: %(default)s)")
    group.add_argument("--clean", action="store_true",
                       help="the data's own labels, not those of target<rate>_large_4.pt, "
                            "with the rate in the name of the model (..._noise0.1)")
    group.add_argument("--epochs", type=positive_integer, default=Schedule.epochs, metavar="E",
                       help="passes over the data (default: %(default)s)")
    group.add_argument("--lr", type=positive_number, default=Schedule.learning_rate, metavar="R",
                       help="learning rate after the warm-up (default: %(default)s)")
    group.add_argument("--weight_decay", type=number_from_zero, default=Schedule.weight_decay,
                       metavar="W",
                       help="not on biases and norms (default: %(default)s)")
    group.add_argument("--warmup", type=positive_integer, metavar="STEPS",
                       help="(default: " + ", ".join(f"{steps} for {task}" for task, steps
                                                      in WARMUP.items())
                            + f", else {100 * WARMUP_SHARE:g} %% of all steps)")
    group.add_argument("--seed", type=positive_integer, default=1, metavar="S",
                       help="of the order, dropout and new head (default: %(default)s)")
    options.add_extraction_options(parser, batch_size=Schedule.batch_size)
    options.add_run_options(parser)
    return parser


def main(args: Namespace) -> None:
    # Imported here, so that --help does not wait for torch.
    import torch

    from experiment.command.device import find_device
    from experiment.command.errors import InputError
    from experiment.inputs.targets import read_targets
    from language import data, models, training
    from language.noise import target_file

    folder = args.cache_dir / args.task_name
    where = data.find_folder(folder, args.data_dir)
    columns = dict(text_columns=args.text_columns, label_column=args.label_column)
    texts = data.load(args.task_name, "train", where, **columns)
    labels = texts.labels
    if not args.clean:
        target, notes = target_file(folder, args.model_name)
        labels = read_targets(target).labels
        if len(labels) != len(texts):
            raise InputError(f"{target}: expected {len(texts)} rows as in "
                             f"{texts.source}, got {len(labels)}")
        for note in notes:
            print(f"note: {note}")
    validation = data.load(args.task_name, "validation", where, class_names=texts.class_names,
                           **columns) if data.has_split("validation", where) else None
    torch.manual_seed(args.seed)  # of the new head
    start = models.start_from(args.init, classes=texts.classes, class_names=texts.class_names)
    start.model.to(find_device(args.device))
    training.train(
        start, texts, labels, folder / args.model_name,
        schedule=Schedule(
            epochs=args.epochs, batch_size=args.batch_size, learning_rate=args.lr,
            weight_decay=args.weight_decay, max_length=args.max_length, seed=args.seed,
            warmup=args.warmup or WARMUP.get(args.task_name)),
        validation=validation, progress=args.verbose)
    print(f"{folder / args.model_name}: {args.epochs} epochs")


if __name__ == "__main__":
    launch(main, get_args_parser())
