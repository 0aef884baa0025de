"""Data: files to examples to ids to batches; it knows no model and no task."""
