"""What makes a net hard to compress: its weights' rank, its outlier channels, its codes' entropy.

The analyses behind the paper's Figures 1 to 3. Each takes any model and leaves it as it was::

    from snt_core.methods.analysis.channels import channel_ranges, widest_to_median
    from snt_core.methods.analysis.entropy import activation_entropy, weight_entropy
    from snt_core.methods.analysis.weights import block_spectra, effective_rank, explained_variance

    print(explained_variance(my_model.fc)[3])  # share of variance in 4 components
    print(effective_rank(my_model.fc))
    found = channel_ranges(my_model, ["conv1"], images)  # images B C H W normalised
    print(widest_to_median(found["conv1"]))
    print(weight_entropy(my_model, weight_bits=4).mean)
    print(activation_entropy(my_model, images, act_bits=4).mean)
    print(block_spectra(my_vit)["ffn"].mean(0))  # of a timm ViT, over all blocks
"""
