"""A content-addressed store: blobs by digest, brought in by ingest transactions."""
