"""The calls that people make: arguments checked, a fit, its result; saving, loading, new rows."""
