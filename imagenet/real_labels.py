"""What the ReaL labels say about a validation image's own label.

Beyer et al. 2020 asked people again which classes each validation image shows; timm ships their
answers. Vasudevan et al. 2022 list classes that cannot be told apart, which are joined here.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from timm.data import RealLabelsImagenet

from experiment.command.errors import InputError

VAL_ROWS = 50_000
# class -> the classes it stands for. Some pairs go both ways, others only from the special class
# to the general one, so that an image of the general class keeps its own.
JOINED = {
    249: {249, 248}, 250: {250, 248}, 385: {385, 101}, 386: {386, 101}, 504: {504, 968},
    482: {482, 848}, 435: {435, 876},
    **{one: set(group) for group in ((836, 837), (638, 639), (657, 744), (620, 681), (664, 782),
                                     (356, 357, 358, 359)) for one in group},
}
VERDICTS = ("clean", "diff", "none", "ambiguous")


def judge(names: Sequence[str], labels: Iterable[int]) -> list[str]:
    """A verdict for each image, by its file name and its own label.

    clean      its class stands for itself alone, and is the one that people see
    diff       people see classes, and none of them is (or is joined with) its own
    none       people agreed on no class
    ambiguous  anything else: several classes, or one that cannot be told from another

    Everything but clean counts as noisy. Raises InputError for a name that is not
    <folder>/ILSVRC2012_val_<number>.JPEG.
    """
    seen = RealLabelsImagenet(range(VAL_ROWS)).real_labels  # it wants as many names as it has rows
    verdicts = []
    for name, label in zip(names, labels):
        file = name.rpartition("/")[2]
        if file not in seen:
            raise InputError(f"{name}: expected ILSVRC2012_val_00000001.JPEG to "
                             f"ILSVRC2012_val_{VAL_ROWS:08}.JPEG, whose ReaL labels are known")
        verdicts.append(verdict(int(label), seen[file]))
    return verdicts


def verdict(label: int, real: Iterable[int]) -> str:
    """One of VERDICTS for an image of class `label` in which people see the classes `real`."""
    own = JOINED.get(label, {label})
    others = set().union(*(JOINED.get(one, {one}) for one in real))
    if not others:
        return "none"
    if own.isdisjoint(others):
        return "diff"
    return "clean" if own == others and len(own) == 1 else "ambiguous"


def summary(verdicts: Sequence[str]) -> str:
    counts = Counter(verdicts)
    return "ReaL labels: " + ", ".join(f"{counts[kind]:,} {kind}" for kind in VERDICTS)
