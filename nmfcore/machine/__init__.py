"""The machine: memory, files, streams, interrupts, and text that others wrote."""
