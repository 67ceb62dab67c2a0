"""Storages of X: dense, sparse, observed in part."""
