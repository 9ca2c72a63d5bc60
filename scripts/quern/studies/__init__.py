"""Studies: sweeps over one axis of calibration or evaluation, with a table that says what holds."""
