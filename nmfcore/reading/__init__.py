"""Arrays, sparse matrices, tables and masks, checked and read into a storage."""
