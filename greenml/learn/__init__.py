"""Models, data, precision and the loop: the only door to torch, timm and torchvision."""
