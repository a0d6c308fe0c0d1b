"""A feature store behind a server: the verbs of `FeatureStore` over HTTP, blocking or not.

    urls        telling a server from a folder
    messages    what goes out and comes back: requests, responses, failures, pauses; frozen values
    address     where the server is, and how to reach it: URL, key, certificates
    retrying    one request with its retries: a generator that sends nothing itself
    failures    error answers as the errors that the embedded store raises
    bodies      JSON, MessagePack and Arrow as bytes, and back
    answers     plain data as the values that the verbs return
    calls       each verb once, as a generator of requests
    drivers     what runs these generators: with threads, or with asyncio
    stores      `RemoteFeatureStore` and `AsyncFeatureStore`

A verb is written once, as a generator that yields what is to be sent and is handed what came back. Nothing but the
drivers touches the network, so everything else is tested without one.
"""
