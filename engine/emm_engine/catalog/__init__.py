"""The durable text and all that is known about it: tables, reads, and the ledger of what the matrix holds."""
