"""What the files and folders that params.yaml names hold, for DVC, which sees their names alone."""
