"""From 2-D keypoints to several people in the world with their cameras."""
