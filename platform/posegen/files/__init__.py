"""Files at the gate: what is read is bounded and checked, what is written is whole or not there."""
