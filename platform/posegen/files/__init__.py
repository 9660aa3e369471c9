"""The gate between files and the program: what is read is bounded and checked, what is written is whole or not there."""
