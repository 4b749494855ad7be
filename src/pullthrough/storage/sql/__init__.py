"""The SQL database under the catalog: transactions, the tables, and what differs from one database to another."""
