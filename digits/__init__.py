"""The built-in experiments: scikit-learn's 1,797 handwritten digits and a small network.

The published experiments in small, in seconds and without a network connection: wrong labels that
the network memorises, a validation set to clean, and unseen classes.
"""
