"""Runs that nobody sits beside: deployments, schedules, a worker that takes up what was killed, turns, pages."""
