"""Commands of the module: plan, apply, verify and what belongs to them."""
