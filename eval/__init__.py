"""Evaluation: tasks, metrics, statistics, benchmarks, reports."""
