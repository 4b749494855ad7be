"""From tables to settings: a module for each topic, and the checks of what several tables say together."""
