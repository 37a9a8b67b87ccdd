"""The open TASEP in continuous time: entry rate alpha, bulk rate 1, exit rate beta; exact samples and references."""
