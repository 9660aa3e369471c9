"""The articulated radiance field: volumes on a skeleton, the march of rays, the fused CPU kernel."""
