"""Pipelines. Not part of Kluis; whatever is imported from here says so when it is used."""
