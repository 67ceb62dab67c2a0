"""The loop of all solvers: iterations, extrapolation, stopping, float32 before float64."""
