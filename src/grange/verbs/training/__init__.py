"""Training datasets: immutable results of feature views, with splits, that pin the versions they were made of."""
