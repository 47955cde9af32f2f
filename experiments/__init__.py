"""Experiments around the bundles: phantom data, a demonstration, and the tables of Chaitanya et al. (NeurIPS 2020)."""
