"""What everything stands on: errors, progress, processes, and folders that are complete or absent."""
