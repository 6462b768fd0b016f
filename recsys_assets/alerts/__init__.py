"""Alerts: every failure of a run, a check, a sensor or a schedule is reported once, to the places in the settings."""
