"""`posegen doctor`: what this machine has, which files are found, and what to do about the rest."""
