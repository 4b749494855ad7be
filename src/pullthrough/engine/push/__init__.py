"""What clients push to the registry's own repositories, and delete from them."""
