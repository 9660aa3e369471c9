"""One renderer a file, its record called RENDERER; see posegen.renderer.registry."""
