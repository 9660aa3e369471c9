"""One file an arm; each holds the record ARM."""
