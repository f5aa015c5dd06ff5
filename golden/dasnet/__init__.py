"""DASNet: winners-take-all from the float network to its int8 winners."""
