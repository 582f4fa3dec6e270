"""Sources of clips with ground-truth masks: benchmarks, photographs and generated video."""
