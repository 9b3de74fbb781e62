"""ImageNet: models, images, their features, and what is known about their labels.

`samples.py` answers the scripts: it reads the published files where they are there, and otherwise
computes the features from images (`features.py`) with the experiment's model (`models.py`).
N images, D feature width, C classes.
"""
