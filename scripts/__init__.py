"""What people run: thin commands over the libraries."""
