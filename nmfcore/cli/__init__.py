"""The command line's commands: each prints what it finds and says what it did."""
