"""Find wrong labels and outliers by how samples relate to each other.

What is computed: for every row the sum, over all rows of a target set, of a signed relation made
of two inner products (features, probabilities); see `kernel.py` for the formula. Done naively this
is an (N, M) matrix: 6 TiB for ImageNet against itself. So it is computed tile by tile and summed
as it goes: plainly (`scores.py`), or over the few pairs that can count (`sums.py`, `pruning.py`).
Held in memory are the inputs (in any precision, memory-mapped if need be), one tile in float32,
the large probabilities of each row, and one sum for each row; nothing that comes out depends on
the tile size, beyond rounding.

Everything takes and returns torch tensors, on any device. Every score that leaves a public
function is HIGHER = MORE SUSPICIOUS, with one exception: `relation_scores` returns the reliability
s, where higher means a better supported row.

This package imports torch, numpy, scikit-learn and tqdm, and nothing else of the project.
"""

from relation.auto import Auto, Regime, auto_scores
from relation.count import Count
from relation.duplicates import (
    Duplicates,
    Leakage,
    find_duplicates,
    find_leakage,
    first_of_group,
)
from relation.kernel import KERNELS, unit_rows
from relation.label_baselines import LABEL_BASELINES, label_baseline_scores
from relation.label_issues import find_label_issues
from relation.label_noise import LabelNoise, detect_label_noise, relative
from relation.leave_one_out import LeaveOneOut, fit_leave_one_out, leave_one_out_probs
from relation.map import RelationMap, relation_map, strongest
from relation.metrics import Metrics, accept_threshold, evaluate
from relation.neighbours import Neighbours, ask_neighbours
from relation.ood import detect_ood, knn_scores
from relation.ood_auto import AutoOutliers, auto_outlier_scores, left_out_outlier_scores
from relation.ood_witnesses import Outputs
from relation.outliers import Outliers, find_outliers
from relation.scores import relation_scores
from relation.sums import Prepared
from relation.topk import relation_topk

__all__ = [
    "KERNELS", "LABEL_BASELINES", "Auto", "AutoOutliers", "Count", "Duplicates", "LabelNoise",
    "Leakage", "LeaveOneOut", "Metrics", "Neighbours", "Outliers", "Outputs", "Prepared",
    "Regime", "RelationMap", "accept_threshold", "ask_neighbours", "auto_outlier_scores",
    "auto_scores", "detect_label_noise", "detect_ood", "evaluate", "find_duplicates",
    "find_label_issues", "find_leakage", "find_outliers", "first_of_group", "fit_leave_one_out",
    "knn_scores", "label_baseline_scores", "leave_one_out_probs", "left_out_outlier_scores",
    "relation_map", "relation_scores", "relation_topk", "relative", "strongest", "unit_rows",
]
