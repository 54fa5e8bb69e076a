"""Studies: arms of a system trained over seeds, what they measure, claims, cards, catalogue."""
