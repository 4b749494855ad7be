"""The module: one declaration makes ECR, or an engine, a pull-through cache.

    declaration ───► desired ───┐
                                ├─► plan ─► apply ─► verify
    AWS or engine ─► observed ──┘

model         the nouns, as plain values, and what a declaration wants
observation   what is there, read
planning      desired minus observed; pure
execution     steps carried out, and written down
checks        whether it works, end to end
export        the declaration for other tools
imports       a declaration of what is there
aws           every call of AWS; the only importer of its SDK
deployment    one declaration at one target, put together of these; `api` is for programs

Showing a plan, saving it and applying it take the same object.
"""
