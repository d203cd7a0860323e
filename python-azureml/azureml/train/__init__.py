"""Training by other means than a script. Not part of Kluis; whatever is imported from here says so when it is used."""
