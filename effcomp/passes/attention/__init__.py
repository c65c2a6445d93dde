"""What fuse-attention knows of attention: score chains, masks, grouped heads."""
