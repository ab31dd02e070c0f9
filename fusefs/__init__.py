"""The FUSE view of a store."""
