import pytest

from experiment.command.errors import InputError
from imagenet.real_labels import judge, summary, verdict
from tests.imagenet_files import val_names

PAIRS = [(836, 837), (638, 639), (657, 744), (620, 681), (664, 782)]


@pytest.mark.parametrize("label, real, expected", [
    (7, [7], "clean"),
    (7, [], "none"),
    (7, [8], "diff"),
    (7, [8, 9], "diff"),
    (7, [7, 8], "ambiguous"),
    (482, [], "none"),
    # the special class stands for the general one too; the general one for itself alone
    *[(special, [special], "ambiguous")
      for special in (249, 250, 385, 386, 504, 482, 435)],
    *[(special, [general], "ambiguous") for special, general in (
        (249, 248), (250, 248), (385, 101), (386, 101), (504, 968), (482, 848), (435, 876))],
    *[(general, [general], "clean") for general in (248, 101, 968, 848, 876)],
    *[(general, [special], "ambiguous") for special, general in (
        (249, 248), (385, 101), (504, 968), (482, 848), (435, 876))],
    (249, [250], "ambiguous"),  # both stand for 248
    (385, [386], "ambiguous"),
    # classes that stand for each other are never clean
    *[(a, [a], "ambiguous") for pair in PAIRS for a in pair],
    *[(a, [b], "ambiguous") for a, b in PAIRS], *[(b, [a], "ambiguous") for a, b in PAIRS],
    *[(a, [b], "ambiguous") for a in range(356, 360) for b in range(356, 360)],
    (355, [356], "diff"), (360, [359], "diff"), (836, [838], "diff"), (435, [482], "diff"),
])
def test_rule(label, real, expected):
    assert verdict(label, real) == expected


def test_names_lead_to_the_labels_that_timm_ships():
    names = [f"n00000000/{name}" for name in val_names(0)[:6]]
    verdicts = judge(names, [0] * 6)
    assert verdicts == ["clean", "diff", "none"] * 2
    assert summary(verdicts) == "ReaL labels: 2 clean, 2 diff, 2 none, 0 ambiguous"


@pytest.mark.parametrize("name", ["a/1.JPEG", "a/ILSVRC2012_val_00050001.JPEG",
                                  "a/ILSVRC2012_val_00000001.jpg"])
def test_other_names(name):
    with pytest.raises(InputError, match=f"{name}: expected ILSVRC2012_val_00000001.JPEG to "
                                         "ILSVRC2012_val_00050000.JPEG"):
        judge([name], [0])
