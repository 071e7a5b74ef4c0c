"""Evaluation with lm-eval: tasks, the generation hook, grading, and the curve."""
