"""The embedded broker: the protocol of `geode_client.broker` on a store."""
