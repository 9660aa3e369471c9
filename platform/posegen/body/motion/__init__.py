"""Motion capture of other skeletons: ASF/AMC and BVH read, retargeted to SMPL's 24 joints, packed."""
