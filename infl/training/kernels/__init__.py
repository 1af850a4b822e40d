"""Layers computed the way that is fast where XLA is not, on CPUs first of all: convolutions, pooling and group norm."""
