"""The original A-NeRF as a renderer, equal to the original."""
