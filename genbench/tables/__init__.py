"""Records -> tables: who may stand in one, what stands in a cell, how sure it is, and how it is written."""
