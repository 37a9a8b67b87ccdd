"""Device code: one folder per kernel, each with a contract, a reference, a CPU form and, where it pays, a GPU form."""
