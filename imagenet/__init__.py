"""ImageNet: models, images, their features, and what is known about their labels.

`samples.py` loads the published files, or else computes the features from images (`features.py`)
with the experiment's model (`models.py`); `own.py` loads the user's images.
N images, D feature width, C classes.
"""
