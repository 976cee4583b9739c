"""See where a vision-language model looks, layer by layer. Light to import: torch loads on first use."""
