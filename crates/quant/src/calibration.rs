//! Which inputs of a weight matter: measured with the model itself on a text of its domain.
//!
//! For a linear layer `y = W a` the importance of input feature `i` is `E[a_i^2]` over the tokens of the calibration
//! text, the diagonal of the input's second moment, one vector `[in_features]` a weight. When rounding
//! changes a row `w` of `W` by `e`, the output changes by `sum_i e_i a_i`, whose expected square is `sum_i E[a_i^2] e_i^2`
//! if the errors of different inputs are uncorrelated. A tied embedding is weighed as the output head that it also is;
//! an untied one multiplies nothing and has no importance.

use std::cell::RefCell;
use std::collections::HashMap;

use shakti_engine::Network;
use shakti_model::{InputObserver, Layout};

use crate::QuantError;

/// Mean squares of the input features of every linear weight.
#[derive(Clone, Debug, Default)]
pub struct Importance {
    by_name: HashMap<String, Vec<f32>>,
    tokens: usize,
}

impl Importance {
    /// Reads `ids` in windows of the model's training context and measures what enters each linear layer.
    ///
    /// # Errors
    /// Fewer than two ids (a begin-of-text token alone is no text), or ids outside the vocabulary.
    pub fn collect(network: &Network, ids: &[u32]) -> Result<Self, QuantError> {
        if ids.len() < 2 {
            return Err(QuantError::NoCalibration { tokens: ids.len() });
        }
        let layout = Layout::new(network.config());
        let sums = layout.specs().iter().map(|spec| vec![0.0; *spec.shape.last().unwrap_or(&0)]);
        let moments = Moments { sums: RefCell::new(sums.map(|sum| (0, sum)).collect()) };
        let windows: Vec<&[u32]> = ids.chunks(network.config().max_position_embeddings).collect();
        network.observe_inputs(&windows, &moments).map_err(|error| QuantError::Source(error.into()))?;
        let by_name = layout.specs().iter().zip(moments.sums.into_inner());
        let by_name = by_name.filter(|(_, (rows, _))| *rows > 0).map(|(spec, (rows, sums))| {
            let means = sums.iter().map(|sum| (sum / rows as f64) as f32).collect();
            (spec.name.clone(), means)
        });
        Ok(Self { by_name: by_name.collect(), tokens: ids.len() })
    }

    /// Mean squares `[in_features]` of what enters the weight of this state-dict name.
    pub fn of(&self, name: &str) -> Option<&[f32]> {
        self.by_name.get(name).map(Vec::as_slice)
    }

    /// Tokens of the calibration text.
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}

/// Rows seen and sums of squares, by parameter.
struct Moments {
    sums: RefCell<Vec<(usize, Vec<f64>)>>,
}

impl InputObserver for Moments {
    fn input(&self, index: usize, x: &[f32]) {
        let (rows, sums) = &mut self.sums.borrow_mut()[index];
        for row in x.chunks_exact(sums.len()) {
            *rows += 1;
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += f64::from(*value) * f64::from(*value);
            }
        }
    }
}
