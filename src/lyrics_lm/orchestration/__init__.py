"""Airflow, as a program beside us: its virtual environment, its settings, its processes. Never imported."""
