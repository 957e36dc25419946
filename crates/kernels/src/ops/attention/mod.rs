//! Attention over blocks of keys: what a tile sees is data (an [`AttentionPlan`]), so dense, sliding-window and
//! block-sparse attention, training, prefill and decoding are one operation.
//!
//! For a query row at position `p` and its visible keys `j` (in the order of the plan's key blocks):
//!
//! ```text
//! s_j = (scale q) . k_j      lse = log sum_j exp(s_j)      out = sum_j exp(s_j - lse) v_j
//! ```
//!
//! Keys are summed in spans of 512 positions, which are then joined in order, so that threads can share the keys of one row.
//! A row's result does not depend on the rows that share its tile, so prefill and decoding give the same bits.
//!
//! Letters: `N` token rows, `H` query heads, `K` key-value heads, `G = H/K`, `Hd` head_dim.

mod backward;
mod forward;
mod kv;
mod plan;

pub use backward::{AttentionGrads, AttentionSaved};
pub use kv::{KEY_BLOCK, KvBlocks, KvType, KvView, KvViews};
pub use plan::{AttentionPlan, AttentionTile, KeyBlock};

pub(crate) use kv::{KV_GROUP, Pair, Stored};
pub(crate) use plan::{TileGrads, TileKeys, TilePart, TileSaved};
