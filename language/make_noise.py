"""Make the published noisy labels from a model that was fit on the clean ones.

    python language/train.py -t sst2 --clean --init roberta-large -n roberta-large
    python language/make_noise.py -t sst2 -n roberta-large -e 4   # writes target0.1_large_4.pt

The published labels are those of a RoBERTa-Large at epoch 4. Its schedule is not stated; the one
here, 10 epochs of which the fourth is used, is that of the RoBERTa-Base, so labels may differ from
the published ones. The training may be stopped once epoch_4 is there.

The recipe is in noise.py. An existing file is never replaced.
"""

import sys
from argparse import Namespace
from pathlib import Path

if __name__ == "__main__":  # the project's root instead of this folder on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiment.command import arguments
from experiment.command.launch import launch
from experiment.inputs.extraction import Extraction
from language import options


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    options.add_task_options(parser)
    options.add_model_options(parser)
    options.add_extraction_options(parser)
    options.add_run_options(parser)
    return parser


def main(args: Namespace) -> None:
    # Imported here, so that --help does not wait for torch.
    from experiment.command.errors import InputError
    from language import noise
    from language.data import Columns
    from language.samples import load_train

    folder = args.cache_dir / args.task_name
    target = folder / noise.TARGET
    if target.exists():
        raise InputError(f"{target}: exists already; remove it to make a new one")
    clean = load_train(
        folder, args.epoch, Extraction.of(args), clean=True,
        model_name=args.model_name, data_dir=args.data_dir,
        columns=Columns(args.text_columns, args.label_column))
    targets, changed = noise.noisy_labels(clean.probs, clean.labels)
    noise.save_targets(targets, changed, target)
    print(f"{target}: {len(changed):,} of {len(targets):,} labels changed")


if __name__ == "__main__":
    launch(main, get_args_parser())
