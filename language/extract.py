"""Extract features and logits of texts: feat_train.pt or feat_validation.pt beside the weights.

    python language/extract.py -t sst2 -e 4
    python language/extract.py -t sst2 -e 4 --split validation

detect.py extracts what it needs; this script is for other splits and epochs, or in advance.
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
    parser.add_argument("--split", choices=("train", "validation"), default="train",
                        help="(default: %(default)s)")
    options.add_run_options(parser)
    return parser


def main(args: Namespace) -> None:
    # Imported here, so that --help does not wait for torch.
    from language import data, features, layout

    folder = args.cache_dir / args.task_name
    place = layout.locate(folder, args.model_name, args.epoch)
    texts = data.load(args.task_name, args.split, data.find_folder(folder, args.data_dir),
                      need_labels=False, text_columns=args.text_columns)
    content = features.obtain(place, args.split, texts, Extraction.of(args))
    (n, dim), classes = content["feat_cls"].shape, content["logit"].shape[1]
    print(f"{place.features / f'feat_{args.split}.pt'}: {n:,} texts, {dim} features, "
          f"{classes} classes")


if __name__ == "__main__":
    launch(main, get_args_parser())
