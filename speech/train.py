"""Fine-tune an Audio Spectrogram Transformer on wrong labels, as the published one was.

    python speech/train.py --data_dir ESC-50-master            # from AST's AudioSet weights
    python speech/train.py --data_dir ESC-50-master -n my_ast  # from those in a folder
    python speech/train.py -t mine --data_dir my_clips --as_given       # on the labels as given

Changes 10 % of the training labels (once, and keeps them), trains 25 epochs, and writes what
detect.py reads: audio_model_epoch<e>.pth and feat_train_<e>.pt of epochs 5, 15 and 25. Rerun the
same command to resume. The CPU needs 3.5 GB, but 850 steps are work for a GPU.
"""

import sys
from argparse import Namespace
from pathlib import Path

if __name__ == "__main__":  # the project's root instead of this folder on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiment.command import arguments
from experiment.command.launch import launch
from experiment.command.option_types import (
    device_name,
    folder_name,
    positive_integer,
    positive_number,
    truth,
)
from speech import AUDIOSET_MODEL
from speech.recipe import Recipe


def get_args_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__)
    group = parser.add_argument_group("data")
    group.add_argument("-t", "--task_name", type=folder_name, default="esc50", metavar="TASK",
                       help="esc50, or a name for your own clips (default: %(default)s)")
    group.add_argument("-n", "--model_name", default="ast", metavar="ast|PATH",
                       help=f"weights to start from: ast is {AUDIOSET_MODEL}, PATH a folder of "
                            "an AST as Hugging Face saves it (default: %(default)s)")
    group.add_argument("--data_dir", type=Path, required=True, metavar="DIR",
                       help="folder with meta/esc50.csv and audio/")
    group.add_argument("--as_given", action="store_true",
                       help="train on the table's labels instead of changing 10 %% of them")
    group = parser.add_argument_group("training")
    group.add_argument("--epochs", type=positive_integer, default=Recipe.epochs, metavar="E",
                       help="passes over the clips (default: %(default)s)")
    group.add_argument("--keep", type=positive_integer, nargs="+", metavar="E",
                       default=list(Recipe.keep),
                       help="epochs to keep (default: 5 15 25); the last one is kept always")
    group.add_argument("--lr", type=positive_number, default=Recipe.learning_rate, metavar="R",
                       help="learning rate (default: %(default)s)")
    group.add_argument("--batch_size", type=positive_integer, default=Recipe.batch_size,
                       metavar="B",
                       help="clips per step (default: %(default)s)")
    group.add_argument("--clips_per_pass", type=positive_integer, default=Recipe.clips_per_pass,
                       metavar="K",
                       help="of these at a time; changes memory and speed, not the result "
                            "(default: %(default)s)")
    group.add_argument("--seed", type=int, default=0, metavar="S",
                       help="of changed labels, order and masks (default: %(default)s)")
    group.add_argument("--device", type=device_name, default="auto",
                       metavar="auto|cpu|cuda[:N]|mps", help="where (default: %(default)s)")
    group = parser.add_argument_group("files and output")
    group.add_argument("--cache_dir", type=Path, metavar="DIR",
                       default=arguments.results_beside(__file__),
                       help="folder of the experiments (default: results beside the script)")
    group.add_argument("--verbose", type=truth, nargs="?", const=True, default=True,
                       metavar="BOOL", help="progress and details (default: %(default)s)")
    return parser


def main(args: Namespace) -> None:
    # Imported here, so that --help does not wait for torch.
    import torch

    from experiment.command.device import find_device
    from experiment.command.errors import InputError
    from speech import data, models, noise, training
    from speech.samples import task_folder

    folder = task_folder(args.cache_dir, args.task_name)
    clips = data.read_clips(args.data_dir)
    torch.manual_seed(args.seed)  # the fresh head
    source = AUDIOSET_MODEL if args.model_name == "ast" else Path(args.model_name)
    network = models.pretrained(source, len(clips.class_names))
    if not args.as_given:
        labels = noise.planted_labels(folder, clips, seed=args.seed)
    elif (folder / noise.TARGETS).is_file():
        raise InputError(f"--as_given: {folder / noise.TARGETS} holds other labels; remove it or "
                         f"choose another --task_name")
    else:
        labels = clips.labels
    recipe = Recipe(epochs=args.epochs, keep=tuple(args.keep), learning_rate=args.lr,
                    batch_size=args.batch_size, clips_per_pass=args.clips_per_pass, seed=args.seed)
    training.fit(network, clips, labels, folder, recipe,
                 device=find_device(args.device), progress=args.verbose)
    print(f"{folder}: trained; next  python speech/detect.py -t {args.task_name} -e {args.epochs}")


if __name__ == "__main__":
    launch(main, get_args_parser())
