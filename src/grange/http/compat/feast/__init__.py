"""The routes of Feast's feature server: its clients keep working when their address is Grange's.

online    /get-online-features, a hot route
writing   rows as Feast's clients send them
routes    /push, /write-to-online-store, /materialize, /materialize-incremental, /health
errors    errors that Feast's clients raise again
"""
