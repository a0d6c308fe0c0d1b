"""The verbs, each once, as generators of requests. Whoever runs them decides whether that blocks.

session     what a client remembers between verbs; requests that verbs have in common
jobs        waiting for work that outlives a request
asked       features, spines and rows as they are sent
definitions catalog, plan, apply, delete, explain
data        materialize, push, read, versions, rollback, verify
serving     historical and online features
training    training datasets
discovery   search, lineage, statistics, usage
exports     files that the server writes
"""
