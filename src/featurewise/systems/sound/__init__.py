"""Speech and sound: networks over time, conditioned on a speaker or on knobs that move."""
