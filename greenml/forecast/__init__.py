"""What a run will have cost when it ends, with an interval."""
