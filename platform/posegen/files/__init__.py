"""The gate for files: what is read is bounded and checked before anything is made of it, what is written is whole."""
