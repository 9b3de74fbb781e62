"""The OOD pipeline on small Samples: rows, notes, thresholds, and what is left out and why."""

import dataclasses

import pytest
import torch

import relation
from experiment.command.errors import InputError
from experiment.inputs.samples import Samples
from experiment.run import ood_baselines
from experiment.run.ood import find_ood
from experiment.run.settings import Settings
from relation import ood_baselines as formulas
from relation.mahalanobis import mahalanobis

DIM, CLASSES = 6, 4
ALL = ood_baselines.find()


def draw(n, *, spread=1.0, seed=0, source="some.npz", **fields):
    """Rows around CLASSES centres, with logits of the best linear head."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.eye(CLASSES, DIM) * 4
    labels = torch.arange(n) % CLASSES
    features = spread * centres[labels] + torch.randn(n, DIM, generator=generator)
    bias = -centres.square().sum(1) / 2
    logits = (features @ centres.T + bias) / 10
    known = dict(features=features, logits=logits, probs=logits.softmax(1), labels=labels,
                 weight=centres / 10, bias=bias / 10)
    return Samples(source=source, **known | fields)


def draw_test(**fields):
    inside, outside = draw(40, seed=1), draw(20, spread=-0.2, seed=2)
    joined = {name: torch.cat([getattr(inside, name), getattr(outside, name)])
              for name in ("features", "logits", "probs", "labels")}
    groups = ["id"] * 40 + ["near"] * 12 + ["far"] * 8
    return draw(60, source="test.npz", **joined | dict(is_ood=torch.arange(60) >= 40,
                                                       group=groups) | fields)


TRAIN, TEST = draw(120, source="train.npz"), draw_test()


def find(train=TRAIN, test=TEST, detectors=ALL, **changed):
    how = dict(kernel="cos_p", temperature=1, threshold=0.03, hop=1, chunk=50, dtype="float32",
               device="cpu")
    return find_ood(train, test, Settings(**how | changed), detectors=detectors,
                    progress=False)


def test_the_names_of_the_published_table():
    assert tuple(ood_baselines.BASELINES) == (
        "MSP", "MaxLogit", "Energy", "ReAct", "KL-Matching", "Mahalanobis", "KNN")
    assert tuple(ood_baselines.EXTRAS) == ("ViM", "GEN", "RMD", "tied-Mahalanobis")


def test_every_score_is_that_of_the_method():
    result = find()
    expected = {
        "MSP": formulas.msp(TEST.probs),
        "MaxLogit": formulas.max_logit(TEST.logits),
        "Energy": formulas.energy(TEST.logits),
        "ReAct": formulas.react(TEST.features, TRAIN.features, TRAIN.weight, TRAIN.bias),
        "KL-Matching": formulas.kl_matching(TEST.probs, TRAIN.probs),
        "Mahalanobis": mahalanobis(TEST.features, TRAIN.features, TRAIN.labels),
        "KNN": relation.knn_scores(TEST.features, TRAIN.features, k=12)}
    assert list(result.scores) == [*expected, "relation", "auto"]
    for name, scores in expected.items():
        assert torch.equal(result.scores[name], scores), name
    assert torch.equal(result.relation_score, relation.detect_ood(
        TEST.features, TEST.probs, TRAIN.features, TRAIN.probs, chunk=50))
    assert "KNN: k = 12 instead of 1000, since there are 120 training rows" in result.notes


def test_rows_are_for_all_and_for_each_group_of_ood_rows():
    result = find()
    assert {row["group"] for row in result.metrics} == {"all", "near", "far"}
    assert [row["name"] for row in result.metrics if row["group"] == "far"] == \
        [*ood_baselines.BASELINES, "relation", "auto"]
    for group, rows in {"all": slice(0, 60), "near": slice(0, 52)}.items():
        expected = relation.evaluate(result.relation_score[rows].numpy(), TEST.is_ood[rows].numpy())
        found = next(row for row in result.metrics
                     if (row["name"], row["group"]) == ("relation", group))
        assert found == {"name": "relation", "group": group, **expected._asdict()}
        assert found["auroc"] > 0.9  # the planted outliers are found


def test_thresholds_keep_95_percent_of_the_id_rows():
    result = find()
    thresholds = result.further["id_thresholds"]
    assert list(thresholds) == [*ood_baselines.BASELINES, "relation", "auto"]
    for name, scores in result.scores.items():
        assert scores[:40].sort().values[37] == thresholds[name], name


def test_hop_thins_the_training_rows_of_relation_and_knn_only():
    result, whole = find(hop=7), find()
    kept = TRAIN.features[::7], TRAIN.probs[::7]
    assert torch.equal(result.relation_score,
                       relation.detect_ood(TEST.features, TEST.probs, *kept, chunk=50))
    assert torch.equal(result.scores["KNN"], relation.knn_scores(TEST.features, kept[0], k=1))
    assert "KNN: k = 1 instead of 142, since there are 18 training rows" in result.notes
    for name in ("ReAct", "KL-Matching", "Mahalanobis"):
        assert torch.equal(result.scores[name], whole.scores[name])
    assert len(result.samples) == 60


def test_auto_is_that_of_the_kept_rows_and_lists_the_users_data():
    given = find(hop=2)
    head = TRAIN.features @ TRAIN.weight.T + TRAIN.bias
    expected = relation.auto_outlier_scores(
        relation.Outputs(TEST.features, TEST.probs, None, -TEST.logits.logsumexp(1)),
        relation.Outputs(TRAIN.features[::2], TRAIN.probs[::2], TRAIN.labels[::2],
                         -head.logsumexp(1)[::2]))
    torch.testing.assert_close(given.scores["auto"], expected.scores, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(find(draw(120, logits=None), hop=2).scores["auto"],
                               given.scores["auto"], rtol=1e-4, atol=1e-4)
    assert given.listed_by == "relation"  # a published experiment
    own = find(test=draw_test(own_data=True))
    assert own.listed_by == "auto" and torch.equal(own.listed_score, own.scores["auto"])
    assert {row["name"]: row["auroc"] for row in own.metrics if row["group"] == "all"}["auto"] > 0.9


def test_a_k_of_nearly_all_training_rows_is_noted():
    notes = find(draw(1010), detectors=ood_baselines.find(["KNN"])).notes
    assert any(note.startswith("KNN: k = 1000 of 1010 training rows") for note in notes)


def test_k_follows_hop_where_rows_are_enough():
    many = draw(1500)
    expected = relation.knn_scores(TEST.features, many.features[::3], k=333)
    result = find(many, hop=3, detectors=ood_baselines.find(["KNN"]))
    assert torch.equal(result.scores["KNN"], expected)
    assert not any("KNN" in note for note in result.notes)


@pytest.mark.parametrize("missing, train_lacks, test_lacks, note", [
    ({"Mahalanobis"}, ["labels"], [], "Mahalanobis is left out: train.npz has no labels"),
    ({"ReAct"}, ["weight"], ["weight"], "ReAct is left out: neither test.npz nor train.npz has "
                                        "the head (weight and bias)"),
    ({"MaxLogit", "Energy", "ReAct"}, ["bias"], ["bias", "logits"],
     "MaxLogit is left out: test.npz has no logits"),
])
def test_what_cannot_run_is_left_out_with_a_note(missing, train_lacks, test_lacks, note):
    train, test = draw(120, source="train.npz", **dict.fromkeys(train_lacks)), \
        draw_test(**dict.fromkeys(test_lacks))
    result = find(train, test)
    assert set(ood_baselines.BASELINES) - set(result.scores) == missing
    assert note in result.notes


def test_logits_come_from_the_head_where_there_are_none():
    result = find(test=draw_test(logits=None))
    torch.testing.assert_close(result.scores["MaxLogit"], find().scores["MaxLogit"])


def test_the_head_may_come_with_either_side():
    result = find(draw(120, weight=None, bias=None))
    assert torch.equal(result.scores["ReAct"], find().scores["ReAct"])
    result = find(test=draw_test(weight=None, bias=None))
    assert torch.equal(result.scores["ReAct"], find().scores["ReAct"])


def test_scores_that_overflow_are_left_out():
    result = find(test=draw_test(weight=torch.full((CLASSES, DIM), 3e38)))
    assert "ReAct" not in result.scores
    assert "ReAct is left out: its scores overflow on these features" in result.notes


@pytest.mark.parametrize("is_ood, note, thresholds", [
    (torch.ones(60, dtype=torch.bool), "every row is OOD (all): AUROC", False),
    (torch.zeros(60, dtype=torch.bool), "no row is OOD (all): AUROC", True),
])
def test_one_kind_of_rows_gives_no_figures(is_ood, note, thresholds):
    result = find(test=draw_test(is_ood=is_ood))
    assert any(line.startswith(note) for line in result.notes)
    assert all(row["auroc"] is row["fpr95"] is None for row in result.metrics)
    assert bool(result.further["id_thresholds"]) == thresholds


def test_without_truth_there_are_scores_but_no_rows():
    result = find(test=draw_test(is_ood=None))
    assert result.is_positive is None and result.metrics == []
    assert result.further["id_thresholds"] == {}
    assert len(result.relation_score) == 60 and result.samples.extra["group"][-1] == "far"


def test_rows_that_relate_to_nothing_are_counted():
    features = TEST.features.clone()
    features[:2] = 0
    features[2:4] *= -1
    result = find(test=draw_test(features=features), kernel="cos", threshold=0.9)
    assert "2 of 60 rows have a feature of zeros and relate to nothing (test.npz)" in result.notes
    assert any("have no relation above the threshold 0.9" in note for note in result.notes)
    assert result.relation_score[:4].allclose(torch.tensor(1e6))


@pytest.mark.parametrize("test, message", [
    (draw(8, features=torch.ones(8, 5), weight=None), "expected 6 features as in train.npz, got 5"),
    (draw(8, probs=torch.ones(8, 1), labels=None, logits=None, weight=None, bias=None),
     "expected 4 classes as in train.npz, got 1"),
    (draw(8, group=["all"] * 8), "group 'all' would be taken for all OOD rows together"),
])
def test_what_does_not_fit_together_is_refused(test, message):
    with pytest.raises(InputError, match=f"^some.npz: {message}"):
        find(test=test)


def test_half_precision_is_near():
    result = find(dtype="float16")
    torch.testing.assert_close(1 / result.relation_score, 1 / find().relation_score, rtol=5e-3,
                               atol=1e-2)


def test_extras_add_columns_and_change_none():
    pytest.importorskip("pytorch_ood", reason="the extras need the optional package pytorch-ood")
    sparse = draw(120, labels=TRAIN.labels * 2 % 3)  # class 3 has no rows
    plain = find(sparse)
    result = find(sparse, detectors=ALL | ood_baselines.find(ood_baselines.EXTRAS))
    assert list(result.scores) == [
        *ood_baselines.BASELINES, *ood_baselines.EXTRAS, "relation", "auto"]
    assert all(torch.equal(result.scores[name], plain.scores[name]) for name in plain.scores)
    for row in find(detectors=ood_baselines.find(ood_baselines.EXTRAS)).metrics:
        assert row["auroc"] > 0.7, row


def test_an_extra_needs_its_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="ViM: needs the package pytorch-ood"):
        ood_baselines.find(["MSP", "ViM"])
    assert list(ood_baselines.find(["KNN", "MSP"])) == ["KNN", "MSP"]


def test_labels_of_the_test_rows_play_no_part():
    result = find(test=dataclasses.replace(TEST, labels=None))
    assert torch.equal(result.relation_score, find().relation_score)
    assert find().samples.labels is None
