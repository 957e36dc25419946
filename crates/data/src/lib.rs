//! Readers, de-duplication, splits, overlap check, packing, mixtures, resumable batches.
