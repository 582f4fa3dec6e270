"""Training clips made of photographs, cut-outs and real video."""
