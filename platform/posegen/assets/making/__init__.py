"""How the embedded assets are made from published files."""
