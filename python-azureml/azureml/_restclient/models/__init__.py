"""Here for what scripts import from it."""
