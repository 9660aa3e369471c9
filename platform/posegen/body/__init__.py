"""Rotations, kinematics, joint sets, body models and motion."""
