"""Scenes: who may see what (split), which scene an id means (sampler), and what surrounds a generator (world)."""
