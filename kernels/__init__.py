"""Device code: one folder per kernel, each with a contract, a reference, a CPU and a GPU form."""
