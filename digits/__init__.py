"""The embedded default: scikit-learn's 1,797 handwritten digits and a small network.

Everything of the published experiments in small, in seconds and without a network connection:
wrong labels that the network memorises, a validation set to be cleaned, and unseen classes.
"""
