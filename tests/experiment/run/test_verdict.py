import pytest
import torch

import relation
from experiment.inputs.samples import Samples
from experiment.run import verdict
from relation import Auto, Count, Regime


def found(*, model=0.9, loo=0.9, near=0.9, a=0.5, b=1.0, weight=0.0, wrong=2, suspects=10, rows=20,
          score=0.5, contradicted=0.0, claimed=True):
    """What auto_scores might find on `rows` rows."""
    return Auto(torch.full((rows,), score), {"loss (loo)": torch.zeros(rows)},
                torch.full((rows,), wrong), torch.full((rows,), wrong + 1),
                Count(wrong, wrong - 1, wrong + 3, claimed), suspects,
                Regime(model, loo, near, a, b, weight, contradicted),
                torch.full((rows, 3), 1 / 3))


def describe(first, origin="", **others):
    rows = len(first.scores)
    labels = torch.arange(rows) % 3
    kept = Samples(source="here", features=torch.ones(rows, 2), probs=first.probs, labels=labels,
                   out_of_sample=origin)
    return verdict.describe(kept, first, others)


@pytest.mark.parametrize("regime, words", [
    (dict(a=0.6, contradicted=0.75), "it has not memorised the wrong ones"),
    (dict(a=0.6, weight=0.2, contradicted=0.6), "it has memorised some"),
    (dict(model=0.996, loo=0.924, a=0.0), "99.6 % of the given labels, leave-one-out 92.4 %"),
    (dict(a=0.0), "it has memorised: its own probabilities cannot be trusted here"),
    (dict(a=0.9, b=0.2), "it is trained too little"),
    (dict(a=0.0, loo=0.97, near=0.9), "features have memorised too"),
    (dict(a=0.0, loo=0.999, near=0.999), "either few labels are wrong, or"),
    (dict(wrong=2), "about 2 of 20 labels (10.0 %) are wrong, between 1 and 5"),
    (dict(wrong=2, claimed=False), "cannot be told from these features"),
])
def test_statement(regime, words):
    assert words in "\n".join(describe(found(**regime))[1].statement)


def test_facts_and_columns():
    scores, result = describe(found())
    assert result.facts["estimated_wrong"] == 2 and result.facts["wrong_between"] == [1, 5]
    assert result.facts["regime"]["accepted_too"] == 1
    assert not scores["loss (loo)"].any()


def test_copies_of_a_settled_row_are_settled(clusters):
    features, probs, labels, _ = clusters  # labels 0 to 7 are wrong
    copied = [*range(120), 3, 5]
    features, probs, labels = features[copied], probs[copied], labels[copied]
    copies = relation.find_duplicates(features)
    settled = torch.isin(torch.arange(122), torch.tensor([0, 120]))
    found = verdict.auto_scores(features, probs, labels, copies, settled=settled, progress=False)
    kept = (found.suggested_labels == labels)[[0, 3, 120, 1, 5, 121]]
    assert kept.tolist() == [True] * 3 + [False] * 3 and found.n_wrong == 7


def test_nothing_is_claimed_of_the_rows_that_nobody_reviewed():
    said = verdict._how_many_more(Count(2, 1, 5, False), 3, torch.arange(20) < 4)
    assert said == ("3 of 4 reviewed labels were wrong; how many of the other 16 are cannot be "
                    "told from these features: they may repeat them, or classes may be hard; "
                    "2 (12.5 %) are taken for wrong")


def test_no_interval_where_none_is_claimed():
    facts = describe(found(claimed=False))[1].facts
    assert facts["estimated_wrong"] == 2 and facts["wrong_between"] is None


def test_leave_one_out_stands_in_for_a_model_that_cannot_be_trusted():
    assert describe(found(weight=0.49))[1].loo_probs.shape == (20, 3)
    assert describe(found(weight=0.5))[1].loo_probs is None
    assert describe(found(), "cross-validated")[1].loo_probs is None


def test_epochs_are_weighted_by_what_they_had_not_memorised():
    early = found(a=0.9, suspects=30, score=1.0, wrong=3)
    late = found(a=0.2, suspects=15, score=0.0, wrong=1)
    scores, result = describe(found(a=0.0), early=early, late=late)
    assert result.facts["epoch_weights"] == pytest.approx({"early": 0.9, "late": 0.1})
    assert scores["auto"].tolist() == pytest.approx([0.9] * 20)
    assert result.facts["estimated_wrong"] == 3 and result.suggested_labels[0] == 3
    assert "early (0.90), late (0.10)" in "\n".join(result.statement)


def test_epochs_that_all_memorised_count_the_same():
    _, result = describe(found(), one=found(a=0.0, score=1.0), two=found(a=0.0, score=0.0))
    assert result.facts["epoch_weights"] == {"one": 0.5, "two": 0.5}


def test_names_on_leave_one_out():
    assert verdict.loo_name("loss") == "loss (loo)"
    assert verdict.loo_name("relation (initial)") == "relation (initial, loo)"


def test_cleanlab_is_a_row_where_it_is_installed():
    pytest.importorskip("cleanlab", reason="an optional comparison")
    labels = torch.tensor([0, 0, 1, 1] * 10)
    probs = torch.where(torch.nn.functional.one_hot(labels, 3).bool(), 0.9, 0.05)
    probs[0] = torch.tensor([0.05, 0.9, 0.05])  # class 2 has no row
    scores = verdict._cleanlab(probs, labels)
    assert scores.argmax() == 0 and scores[0] > 1 and (scores[1:] < 1).all()
    assert verdict._cleanlab(probs[:1], labels[:1]) is None  # one class: nothing to find
