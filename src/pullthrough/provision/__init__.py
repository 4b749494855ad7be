"""The module: one declaration makes ECR, or an engine, a pull-through cache.

    declaration ─► desired ─┐
                            ├─► plan ─► apply ─► verify
    AWS or engine ─► observed ┘

`desired` and `planner` are pure; `aws` makes every call and is the only importer of the AWS SDK. Showing a plan, saving
it and applying it take the same object.
"""
