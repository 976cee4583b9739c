"""The core: what a vision-language model is, its attention flow, its data and its training. Light to import."""
