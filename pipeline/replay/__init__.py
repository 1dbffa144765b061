"""Replaying what another run drew: controls that tell an adaptive curriculum's timing and choice apart."""
