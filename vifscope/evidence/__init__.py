"""Causal evidence: what happens to the answers when what a model looks at is taken away."""
