"""The embedded stand-ins, which need no licence."""
