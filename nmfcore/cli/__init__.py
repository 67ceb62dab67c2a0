"""The command line's three commands: each prints what it finds and says what it did."""
