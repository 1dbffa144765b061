"""The probe: problems of the target that a curriculum may look at while it trains on the pool."""
