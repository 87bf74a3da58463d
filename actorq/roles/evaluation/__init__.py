"""Evaluators: greedy episodes, exact values, and the criterion for a solved task."""
