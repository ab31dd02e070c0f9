"""The ``dist`` command line of a store; `store.dist.cli` says how it is put together."""
