"""What happened, told: events kept, and sent to a webhook."""
