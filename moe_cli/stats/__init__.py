"""Statistics of proportions, paired outcomes and clusters. Pure; no torch."""
