"""ESC-50 and an Audio Spectrogram Transformer: the published sound experiment, and how it is made.

`data` reads clips, `noise` makes wrong labels, `models` loads networks, `features` extracts and
caches features, `samples` loads the experiment, `own` the user's sounds; `training` trains a
network, `demo` makes synthetic clips. `download.py`, `train.py` and `detect.py` are the commands.
"""

AUDIOSET_MODEL = "MIT/ast-finetuned-audioset-10-10-0.4593"  # on the hub, by the authors of AST
