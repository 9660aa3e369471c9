"""The user's own domain: unlabelled pictures and 2-D keypoints, lifted to people and cameras that look like them."""
