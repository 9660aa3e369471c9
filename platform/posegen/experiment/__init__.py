"""The experiment as stages that leave files and markers. Nothing here imports Ray."""
