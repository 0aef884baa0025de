"""Tasks, a file each: its data, objective, score and prediction."""
