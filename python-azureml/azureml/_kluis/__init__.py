"""What stands between Azure ML's names and the package ``kluis``. Private."""
