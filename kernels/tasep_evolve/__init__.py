"""Open TASEP in continuous time."""
