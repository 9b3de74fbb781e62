"""Texts: the SST-2 and MNLI experiments, and any text classifier of the transformers library.

    <cache_dir>/<task>/target<rate>_large_4.pt        given labels, and which of them are wrong
    <cache_dir>/<task>/<model_name>/                  config and tokenizer
    <cache_dir>/<task>/<model_name>/epoch_<k>/        weights, feat_train.pt, feat_validation.pt
    <cache_dir>/<task>/data/                          texts, unless they come from the hub

How they are made: `train.py` on clean labels, `make_noise.py`, `train.py` on the noisy ones, and
`extract.py`. `samples.py` loads the files; `detect.py` finds the wrong labels.
"""

PUBLISHED = "roberta-base_fp16_noise0.1"  # folder of the published model
DEMO = "roberta-tiny_noise0.1"  # folder of the model that the demo trains
EPOCH = 4  # of either
HUB_MODEL = "roberta-base"  # to start from, and for the user's own texts
