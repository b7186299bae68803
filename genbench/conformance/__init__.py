"""The conformance kit: what every model promises, checked on small cases, and the report of the results."""
