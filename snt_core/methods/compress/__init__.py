"""Post-training compression: each function takes a model and returns a new one.

::

    from snt_core.methods.compress.activations import quantize_static
    from snt_core.methods.compress.pact import prepare_qat
    from snt_core.methods.compress.prune import prune_magnitude, sparsity
    from snt_core.methods.compress.pruner import MagnitudePruner
    from snt_core.methods.compress.quantize import quantize_weights
    from snt_core.methods.compress.token_vit import merge_tokens, prune_tokens
    from snt_core.methods.models.coverage import coverage

    print(coverage(my_model))  # which weights would be touched, which not, and why
    small = quantize_weights(prune_magnitude(my_model, 0.5), weight_bits=4)
    print(sparsity(small), coverage(small).share)
    # activations too: their ranges come from some hundred images, B C H W normalised
    small = quantize_static(my_model, images, weight_bits=8, act_bits=8)
    student = prepare_qat(my_model, images, weight_bits=4, act_bits=4)  # then train, then freeze
    fewer = merge_tokens(my_vit, 8)  # any ViT of timm or torchvision; prune_tokens(my_vit, 0.9)

`prune.prune_iterative` prunes and trains in turns; `MagnitudePruner(my_model, 0.9, steps=2000)`
prunes inside your own loop.
"""
