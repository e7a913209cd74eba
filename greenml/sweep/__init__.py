"""A search for the front of accuracy and carbon: trials in seats, here or elsewhere, every epoch a point."""
