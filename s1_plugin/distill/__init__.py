"""From questions to traces, by a teacher that thinks aloud (`s1 distill`)."""
