"""The verbs: where definitions, plans, engines and stores meet. `FeatureStore` is their face.

apply · materialize · push · history · online · delete · look (read, statistics, inspect). Each takes `Parts`,
the opened backends, and `now` where time matters: nothing here reads the clock (TIME-3).
"""
