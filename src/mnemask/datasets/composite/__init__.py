"""Training clips made from photographs, cut-outs and real video."""
