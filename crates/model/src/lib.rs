//! The decoder: configuration, parameters, layers forward and backward, KV cache, cost.
