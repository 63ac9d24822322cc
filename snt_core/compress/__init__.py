"""Post-training compression: each function takes a model and returns a new one.

::

    from snt_core.compress.prune import prune_magnitude, sparsity
    from snt_core.compress.quantize import quantize_weights

    small = quantize_weights(prune_magnitude(my_model, 0.5), weight_bits=4)
    print(sparsity(small))
"""
