"""Names of images in the cache and at their upstreams, and how to come from one to the other. No I/O, nothing of AWS.

    docker.io/library/nginx   ◄─►   <registry>/docker-hub/library/nginx

`names` turns names under a rule into each other; `addresses` says what image names begin with, `labels` what such
beginnings, and whatever else a rule has, are called in other tools.
"""
