"""The heatmap browser, opened by `vifscope app`: where models look, sample by sample and layer by layer."""
