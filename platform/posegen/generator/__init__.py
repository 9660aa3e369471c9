"""The generator of scenes, its discriminators, and the proposals that its samples are compared with."""
