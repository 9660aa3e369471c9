"""Reading users' files without running, or believing, anything that stands in them."""
