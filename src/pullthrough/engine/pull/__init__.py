"""What clients pull: found here, or fetched from its upstream."""
