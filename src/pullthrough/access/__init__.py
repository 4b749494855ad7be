"""Who may do what: keys, signatures, tokens, policies. Below both faces; knows no web framework."""
