"""Benchmarks: one file per kernel, the same work by other programs (peers), and the tables made of both."""
