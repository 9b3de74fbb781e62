"""ESC-50 and an Audio Spectrogram Transformer: the published sound experiment, and how it is made.

`data` reads clips and wrong labels, `models` the network, `features` what it gives for each clip,
`samples` hands that over; `training` makes a network where none was published, and `demo` sounds
where no data set can be fetched. `download.py`, `train.py` and `detect.py` are the commands.
"""
