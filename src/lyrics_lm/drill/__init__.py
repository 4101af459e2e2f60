"""Faults on purpose, against a loop that is thrown away: what each does to clients, and whether all ends well."""
