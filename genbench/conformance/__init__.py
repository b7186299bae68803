"""The conformance kit: what every model promises, tried on small cases, and the report of what became of it."""
