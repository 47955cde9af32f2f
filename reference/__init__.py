"""The losses written as loops over pairs, straight from the paper's equations, for tests and benchmarks."""
