"""Arms: where the rows of each arm of a comparison come from."""
