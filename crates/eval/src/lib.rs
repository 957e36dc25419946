//! Perplexity, answer overlap and baselines, measured through the engine.
