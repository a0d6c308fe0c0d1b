"""Grange over HTTP. The path of a request:

    shell       limits, request id, who asks, metrics, the log of requests; hot routes go straight on
    hot         /api/v1/serving/online and what serves vectors as fast: no framework between shell and store
    resources   everything else under /api/v1, a module per noun; OpenAPI at /docs
    compat      the routes of other systems over the same resources

`grange.access` decides what a caller may do and see; nothing here reads features but through it.
"""
